#!/usr/bin/env bash
# CK+ under ten subject-independent folds: MicroExpNet from labels alone, and distilled.
#
#   benchmarks/ckplus.sh CK48 FER_CNN OUT [SEED...]
#
# CK48 is a folder of class folders with CK+ file names; FER_CNN the run of a fer_cnn that was trained on FER2013.
# In each fold it goes on with that fold's training subjects, so a fold's teacher never saw its test subjects.
# Every command goes on where it stopped; the two arms of a seed may run side by side.
set -euo pipefail
data=$1 pretrained=$2 out=$3
shift 3
teacher=(--data "$data" --teacher fer_cnn --policy mixed_bfloat16)
student=(--data "$data" --folds 10 --student microexpnet --epochs 30
  --student-options keep_prob 0.8 pixel_scale 0.0625)

python -m distill.train_teacher "${teacher[@]}" --weights "$pretrained" --folds 10 \
  --batch-size 16 --epochs 4 --schedule cosine --lr 5e-4 --out "$out/teacher"
python -m distill.teacher_logits "${teacher[@]}" --weights "$out/teacher" --view.crops microexpnet_original --out "$out/logits"
for seed in "${@:-0}"; do
  python -m distill.train_student "${student[@]}" --seed "$seed" --view.crops microexpnet_original \
    --out "$out/labels-$seed" &
  python -m distill.train_student "${student[@]}" --seed "$seed" --logits "$out/logits" \
    --temperature 4 --lambda 0.9 --loss hinton --out "$out/distilled-$seed" &
  wait -n
  wait -n
done
python "$(dirname "$0")/summarise_runs.py" "$out"/teacher "$out"/labels-* "$out"/distilled-*
