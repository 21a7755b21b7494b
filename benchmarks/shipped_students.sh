#!/usr/bin/env bash
# The students that come with the package, distilled from the teacher that does, and their labels-only arms; see
# docs/devices.md.
#
#     benchmarks/shipped_students.sh path/to/fer2013.csv OUT [SEED...]
#
# On two cores of an Intel Xeon with AMX: caching took 14 minutes; slim_mobilenet 50 minutes a run of one thread, two runs
# side by side; slim_resnet_wide 43 a run, at 800 images/s. Every step goes on where it stopped when it is run again.
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT  # of two runs side by side, none goes on alone
data=$1 out=$2
shift 2
fast=(python "$(dirname "$0")/fast_cpu.py")
views=(--views 16 --view.erase 0.3 --view.zoom 0.8 1.1 --view.rotation 12)
distilled=(--logits "$out/teacher.h5" --loss hinton --temperature 2 --lambda 0.9)
train=("${fast[@]}" distill.train_student --data "$data" --batch-size 128 --optimizer adamw --warmup-epochs 1 --ema 0.999
  --view-order random)
mobilenet=("${train[@]}" --student slim_mobilenet --epochs 60 --weight-decay 0.01 --lr 0.003)
wide=("${train[@]}" --student slim_resnet_wide --epochs 72 --weight-decay 0.02 --lr 0.002 --policy mixed_bfloat16)

"${fast[@]}" distill.teacher_logits --data "$data" --teacher fer2013_resnet10 "${views[@]}" --flip-average \
  --policy mixed_bfloat16 --out "$out/teacher.h5"
for seed in "${@:-0}"; do
  taskset -c 0 "${mobilenet[@]}" "${distilled[@]}" --seed "$seed" --out "$out/mobilenet-distilled-$seed" &
  taskset -c 1 "${mobilenet[@]}" "${views[@]}" --seed "$seed" --out "$out/mobilenet-labels-alone-$seed"
  wait $!
  "${wide[@]}" "${distilled[@]}" --seed "$seed" --out "$out/wide-distilled-$seed"
  "${wide[@]}" "${views[@]}" --seed "$seed" --out "$out/wide-labels-alone-$seed"
done
for student in mobilenet wide; do
  python -m distill.export --model "$out/$student-distilled-${1:-0}" --data "$data" --formats litert-int8 --out "$out/$student-export"
done
