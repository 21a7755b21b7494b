#!/usr/bin/env bash
# The student that comes with the package, distilled from the teacher that does, and its labels-only arm; see
# docs/devices.md.
#
#     benchmarks/shipped_student.sh path/to/fer2013.csv OUT [SEED...]
#
# Caching took 14 minutes and the distilled run 43, at 800 images/s, on two cores. Every step goes on where it stopped
# when it is run again.
set -euo pipefail
data=$1 out=$2
shift 2
fast=(python "$(dirname "$0")/fast_cpu.py")
views=(--views 16 --view.erase 0.3 --view.zoom 0.8 1.1 --view.rotation 12)
train=("${fast[@]}" distill.train_student --data "$data" --student slim_resnet_wide --epochs 72 --policy mixed_bfloat16
  --batch-size 128 --optimizer adamw --weight-decay 0.02 --lr 0.002 --warmup-epochs 1 --ema 0.999 --view-order random)

"${fast[@]}" distill.teacher_logits --data "$data" --teacher fer2013_resnet10 "${views[@]}" --flip-average \
  --policy mixed_bfloat16 --out "$out/teacher.h5"
for seed in "${@:-0}"; do
  "${train[@]}" --logits "$out/teacher.h5" --loss hinton --temperature 2 --lambda 0.9 --seed "$seed" --out "$out/distilled-$seed"
  "${train[@]}" "${views[@]}" --seed "$seed" --out "$out/labels-alone-$seed"
done
python -m distill.export --model "$out/distilled-0" --data "$data" --out "$out/export"
