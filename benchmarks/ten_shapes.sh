#!/usr/bin/env bash
# Labels, logits, features and mixed pictures on pictures that are no faces: what does which knowledge add?
# Three seeds of each arm, equal epochs; see docs/comparison.md.
#
#     benchmarks/ten_shapes.sh OUT
#
# Two runs of one thread each at a time (extra `ray`). Every step goes on where it stopped when the script is run again.
set -euo pipefail
out=$1
export PYTHONPATH="$(dirname "$(realpath "$0")"):${PYTHONPATH:-}"
data=(--data ten_shapes:draw)
views=(--view.rotation 180 --view.zoom 0.7 1.3 --view.shift 0.15)
mixed=(--view.mixup 0.3 --view.cutmix 0.2)
fast=(python "$(dirname "$0")/fast_cpu.py")

"${fast[@]}" distill.train_teacher "${data[@]}" --teacher resnet10 --image-size 32 --recipe strong --epochs 40 --ema 0.99 \
  --policy mixed_bfloat16 "${views[@]}" "${mixed[@]}" --out "$out/teacher"
teacher=("${fast[@]}" distill.teacher_logits "${data[@]}" --teacher resnet10 --weights "$out/teacher" --views 24
  --policy mixed_bfloat16 --features avg_pool "${views[@]}")
"${teacher[@]}" --out "$out/plain.h5"
"${teacher[@]}" "${mixed[@]}" --out "$out/mixed.h5"
python -m distill.compare "${data[@]}" --logits "$out/plain.h5" --other-view-logits "$out/mixed.h5" --epochs 24 \
  --students slim_resnet_small --image-size 32 --lr 0.002 --optimizer adamw --weight-decay 0.02 \
  --temperatures 2 --lambdas 0.9 --feature-losses hint --feature-weights 0.1 --feature-layers avg_pool=avg_pool \
  --ray --cpus-per-run 1 --out "$out/comparison"
