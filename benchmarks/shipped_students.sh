#!/usr/bin/env bash
# The students that come with the package, distilled from the teachers that do, and their labels-only arms; see
# docs/devices.md.
#
#     benchmarks/shipped_students.sh path/to/fer2013.csv OUT [SEED...]
#
# TEACHER=path/to/run takes another resnet10 in the place of the package's first. On two cores of an Intel Xeon with AMX: caching
# took 14 minutes a store, and runs at 30 images/s (18 minutes) with mixed pictures; slim_mobilenet 50 minutes a run of one thread in
# plain views and 108 for the 170 epochs in mixed ones, two runs side by side; slim_resnet_wide 43 a run, at 800 images/s of both,
# or 30 to 36 on one, at 1,000, where nothing else ran on it; from both teachers 67 (144 epochs, plain) and 48 (120, mixed)
# on one. Of slim_resnet_wide and slim_mobilenet the seed that ships is 1. Every step goes on where it stopped when it is run again.
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT  # of two runs side by side, none goes on alone
data=$1 out=$2
shift 2
fast=(python "$(dirname "$0")/fast_cpu.py")
plain=(--views 16 --view.erase 0.3 --view.zoom 0.8 1.1 --view.rotation 12)
mixed=("${plain[@]:2}" --views 24 --view.mixup 0.4 --view.cutmix 0.3)
distilled=(--loss hinton --temperature 2 --lambda 0.9)
train=("${fast[@]}" distill.train_student --data "$data" --batch-size 128 --optimizer adamw --warmup-epochs 1 --ema 0.999
  --view-order random)
wide=("${train[@]}" --student slim_resnet_wide --weight-decay 0.02 --lr 0.002 --policy mixed_bfloat16)
mobilenet=("${train[@]}" --student slim_mobilenet --weight-decay 0.01 --lr 0.003)
plain_mobilenet=("${mobilenet[@]}" --epochs 60)
mixed_mobilenet=("${mobilenet[@]}" --epochs 170 --student-options keep_prob 1.0)
cache=("${fast[@]}" distill.teacher_logits --data "$data" --flip-average --policy mixed_bfloat16)
teacher=("${cache[@]}" --teacher fer2013_resnet10)
if [ -n "${TEACHER:-}" ]; then teacher=("${cache[@]}" --teacher resnet10 --weights "$TEACHER"); fi

for views in plain mixed; do
  declare -n settings=$views
  "${teacher[@]}" "${settings[@]}" --out "$out/$views.h5"
  "${cache[@]}" --teacher fer2013_resnet10_seed1 "${settings[@]}" --out "$out/$views-seed1.h5"
done
# MicroExpNet, whose teacher did without mirror images; the seed that ships is 1
"${fast[@]}" distill.teacher_logits --data "$data" --teacher fer2013_resnet10 --views 24 "${plain[@]:2}" --out "$out/plain24.h5"
micro=("${fast[@]}" distill.train_student --data "$data" --logits "$out/plain24.h5" --student microexpnet --epochs 300
  --view-order random --schedule cosine --lr 0.001 --student-options keep_prob 1.0 pixel_scale 0.0625)
wide_pair() {  # NAME EPOCHS VIEWS STORE...: slim_resnet_wide distilled, and from labels alone
  local name=$1 epochs=$2
  local -n views_of_pair=$3
  taskset -c 0 "${wide[@]}" --epochs "$epochs" "${distilled[@]}" --logits "${@:4}" --seed "$seed" --out "$out/wide-$name-distilled-$seed" &
  taskset -c 1 "${wide[@]}" --epochs "$epochs" "${views_of_pair[@]}" --seed "$seed" --out "$out/wide-$name-labels-alone-$seed"
  wait $!
}
for seed in "${@:-0}"; do
  for views in plain mixed; do
    declare -n settings=$views network=${views}_mobilenet
    stores=("$out/$views.h5")
    if [ "$views" = mixed ]; then stores+=("$out/mixed-seed1.h5"); fi
    taskset -c 0 "${network[@]}" "${distilled[@]}" --logits "${stores[@]}" --seed "$seed" --out "$out/mobilenet-$views-distilled-$seed" &
    taskset -c 1 "${network[@]}" "${settings[@]}" --seed "$seed" --out "$out/mobilenet-$views-labels-alone-$seed"
    wait $!
  done
  wide_pair plain 72 plain "$out/plain.h5"
  wide_pair plain-both 144 plain "$out/plain.h5" "$out/plain-seed1.h5"
  wide_pair mixed-both 120 mixed "$out/mixed.h5" "$out/mixed-seed1.h5"
  taskset -c 0 "${micro[@]}" --temperature 2 --lambda 0.9 --seed "$seed" --out "$out/micro-distilled-$seed" &
  taskset -c 1 "${micro[@]}" --lambda 0 --seed "$seed" --out "$out/micro-labels-alone-$seed"
  wait $!
done
python -m distill.export --model "$out/micro-distilled-${1:-0}" --data "$data" --formats litert-float32 --out "$out/micro-export"
for student in mobilenet-mixed wide-mixed-both; do
  python -m distill.export --model "$out/$student-distilled-${1:-0}" --data "$data" --formats litert-int8 --out "$out/$student-export"
done
