#!/usr/bin/env bash
# Logits, features, both, and labels alone, each in plain views and with mixed pictures, on FER2013, from the teacher that
# comes with the package; see docs/comparison.md.
#
#     benchmarks/features_and_mixing.sh path/to/fer2013.csv OUT
#
# MicroExpNet also learns from labels alone for twice as long. Two runs of one thread each at a time (extra `ray`). Every
# step goes on where it stopped when the script is run again.
set -euo pipefail
data=$1 out=$2
teacher=(python "$(dirname "$0")/fast_cpu.py" distill.teacher_logits --data "$data" --teacher fer2013_resnet10 --policy mixed_bfloat16 --views 8
  --features avg_pool --view.erase 0.3 --view.zoom 0.8 1.1 --view.rotation 12)
compare=(python -m distill.compare --data "$data" --logits "$out/plain.h5" --other-view-logits "$out/mixed.h5"
  --temperatures 2 --lambdas 0.9 --feature-losses hint --ray --cpus-per-run 1)

"${teacher[@]}" --out "$out/plain.h5"
"${teacher[@]}" --view.mixup 0.3 --view.cutmix 0.2 --out "$out/mixed.h5"
"${compare[@]}" --students microexpnet --student-options keep_prob 0.8 pixel_scale 0.0625 --feature-layers dense=avg_pool \
  --epochs 12 --labels-epochs 24 --out "$out/microexpnet"
"${compare[@]}" --students slim_mobilenet --optimizer adamw --weight-decay 0.01 --lr 0.003 --schedule cosine --warmup-epochs 1 \
  --feature-layers avg_pool=avg_pool --epochs 5 --out "$out/slim_mobilenet"
