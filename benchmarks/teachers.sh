#!/usr/bin/env bash
# Teachers of our own on FER2013's Training: ResNet-18 for small faces, most epochs at 32x32 and the last at 48x48.
#
#     benchmarks/teachers.sh path/to/fer2013.csv OUT [SEED...]
#
# An average pool ends the network, so that the weights of one size begin the training at the other. fast_cpu.py says
# how many images a second were seen. Every step goes on where it stopped when the script is run again.
set -euo pipefail
data=$1 out=$2
shift 2
train=(python "$(dirname "$0")/fast_cpu.py" distill.train_teacher --data "$data" --teacher resnet18 --recipe strong
  --policy mixed_bfloat16 --ema 0.999)
for seed in "${@:-0}"; do
  "${train[@]}" --image-size 32 --epochs 40 --seed "$seed" --out "$out/resnet18-32px-$seed"
  "${train[@]}" --image-size 48 --epochs 8 --schedule cosine --lr 0.0005 --seed "$seed" --weights "$out/resnet18-32px-$seed" \
    --out "$out/resnet18-48px-$seed"
done
python "$(dirname "$0")/summarise_runs.py" "$out"/resnet18-48px-*
