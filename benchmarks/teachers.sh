#!/usr/bin/env bash
# The teacher that comes with the package: ResNet-10 on FER2013, some epochs at 32x32 and the others at 48x48.
#
#     benchmarks/teachers.sh path/to/fer2013.csv OUT [SEED...]
#
# An average pool ends the network, so that the weights of one size begin the training at the other. With fast_cpu.py, on
# two cores of an Intel Xeon with AMX: up to 440 images/s at 32x32 and 390 at 48x48; the seed that ships took three hours
# and a quarter beside other work. Every step goes on where it stopped when the script is run again. fer2013_resnet10 is
# seed 0; in place of its second step it had the first 7 epochs of a cosine of 40, 0.0020 down to 0.0019.
# fer2013_resnet10_seed1 had fewer and shorter steps, which its card has.
set -euo pipefail
data=$1 out=$2
shift 2
train=(python "$(dirname "$0")/fast_cpu.py" distill.train_teacher --data "$data" --teacher resnet10 --recipe strong
  --policy mixed_bfloat16 --ema 0.999 --weight-decay 0.05 --batch-size 256)
for seed in "${@:-0}"; do
  begun=$out/resnet10-32px-$seed larger=$out/resnet10-48px-begun-$seed first=$out/resnet10-48px-$seed
  "${train[@]}" --seed "$seed" --image-size 32 --epochs 13 --lr 0.002 --schedule constant --warmup-epochs 1 --out "$begun"
  "${train[@]}" --seed "$seed" --image-size 48 --epochs 7 --lr 0.002 --schedule constant --warmup-epochs 1 \
    --weights "$begun" --out "$larger"
  "${train[@]}" --seed "$seed" --image-size 48 --epochs 20 --lr 0.0015 --schedule cosine --warmup-epochs 0.5 \
    --weights "$larger" --out "$first"
  "${train[@]}" --seed "$seed" --image-size 48 --epochs 64 --lr 0.0015 --schedule cosine --warmup-epochs 0.5 \
    --weights "$first" --out "$out/resnet10-48px-long-$seed"
done
python "$(dirname "$0")/summarise_runs.py" "$out"/resnet10-48px-{,long-}[0-9]*
python -m distill.runs.trained_networks "$out/resnet10-48px-long-${1:-0}" "$out/fer2013_resnet10"
