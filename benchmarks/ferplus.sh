#!/usr/bin/env bash
# FER+: the two larger students that come with the package, from the votes alone and distilled; see docs/results.md.
#
#     benchmarks/ferplus.sh path/to/ferplus.csv OUT [SEED...]
#
# The teacher is fer2013_resnet10 with a new last layer for FER+'s eight classes. It and the students learn from all
# votes of an image as its soft label. Both arms of a student see the same eight views. Every step goes on where it
# stopped when the script is run again.
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT  # of two runs side by side, none goes on alone
data=$1 out=$2
shift 2
fast=(python "$(dirname "$0")/fast_cpu.py")
"${fast[@]}" distill.train_teacher --data "$data" --teacher resnet10 --weights fer2013_resnet10 --recipe strong --label-smoothing 0 \
  --weight-decay 0.05 --batch-size 128 --epochs 4 --lr 0.0005 --schedule cosine --warmup-epochs 0.25 --ema 0.99 --out "$out/teacher"
views=(--views 8 --view.erase 0.3 --view.zoom 0.8 1.1 --view.rotation 12)
"${fast[@]}" distill.teacher_logits --data "$data" --teacher resnet10 --weights "$out/teacher" "${views[@]}" --out "$out/views.h5"
train=("${fast[@]}" distill.train_student --data "$data" --view-order random --epochs 20 --batch-size 64 --optimizer adamw
  --schedule cosine --warmup-epochs 1 --ema 0.999)
distilled=(--logits "$out/views.h5" --temperature 2 --lambda 0.9)
for seed in "${@:-0}"; do
  for student in "slim_mobilenet --lr 0.003 --weight-decay 0.01" "slim_resnet_wide --lr 0.002 --weight-decay 0.02"; do
    read -ra network <<< "$student"
    run=$out/${network[0]}
    taskset -c 0 "${train[@]}" --student "${network[@]}" "${distilled[@]}" --seed "$seed" --out "$run-distilled-$seed" &
    taskset -c 1 "${train[@]}" --student "${network[@]}" "${views[@]}" --seed "$seed" --out "$run-labels-alone-$seed"
    wait $!
  done
done
python "$(dirname "$0")/summarise_runs.py" "$out/teacher" "$out"/slim_*-[0-9]*
