#!/usr/bin/env bash
# FaceNet in docs/results.md: it, MicroExpNet from labels alone, MicroExpNet distilled, on FER2013.
#
#     benchmarks/fer2013.sh path/to/fer2013.csv OUT
#
# About three hours on two cores. Every step goes on where it stopped when the script is run again.
set -euo pipefail
data=$1 out=$2
teacher=(--data "$data" --teacher facenet --policy mixed_bfloat16)
student=(--data "$data" --student microexpnet --lr 0.001 --epochs 20
  --student-options keep_prob 0.8 pixel_scale 0.0625)

python -m distill.train_teacher "${teacher[@]}" --epochs 3 --schedule cosine --out "$out/facenet"
python -m distill.teacher_logits "${teacher[@]}" --weights "$out/facenet" --views 4 --out "$out/facenet.h5"
for seed in 0 1 2; do
  python -m distill.train_student "${student[@]}" --seed $seed --views 4 --out "$out/labels-$seed"
  python -m distill.train_student "${student[@]}" --seed $seed --logits "$out/facenet.h5" \
    --loss microexpnet --temperature 8 --lambda 0.5 --out "$out/distilled-$seed"
done
python "$(dirname "$0")/summarise_runs.py" "$out"/facenet "$out"/labels-* "$out"/distilled-*
