#!/usr/bin/env bash
# Every loss at its usual settings, on FER2013, from the teacher that comes with the package; see docs/comparison.md.
#
#     benchmarks/losses.sh path/to/fer2013.csv OUT
#
# Two runs of one thread each at a time (extra `ray`). Every step goes on where it stopped when the script is run again.
set -euo pipefail
data=$1 out=$2
python -m distill.teacher_logits --data "$data" --teacher fer2013_resnet10 --flip-average --policy mixed_bfloat16 \
  --views 16 --view.erase 0.3 --view.zoom 0.8 1.1 --view.rotation 12 --out "$out/teacher.h5"
python -m distill.compare --data "$data" --logits "$out/teacher.h5" --epochs 12 --ray --cpus-per-run 1 \
  --student-options keep_prob 0.8 pixel_scale 0.0625 --students microexpnet --losses --seeds 3 --out "$out/losses" \
  --usual-losses microexpnet hinton standardised dkd dist nkd ttm wttm mse
