#!/usr/bin/env bash
# Which recipe teaches a network of one size most, in as many epochs? Labels alone, on FER2013.
#
#   benchmarks/recipes.sh path/to/fer2013.csv OUT [SEED...]
set -euo pipefail
data=$1 out=$2
shift 2
for seed in "${@:-0}"; do
  for recipe in facenet fer_cnn strong; do
    python -m distill.train_teacher --data "$data" --teacher plain_resnet_tiny --recipe $recipe --epochs 12 \
      --seed "$seed" --out "$out/$recipe-$seed"
  done
done
for recipe in facenet fer_cnn strong; do
  echo "$recipe:"
  python "$(dirname "$0")/summarise_runs.py" "$out/$recipe"-*
done
