#!/usr/bin/env bash
# What each ingredient of the recipe "strong" is worth: it alone left out, others alone added, and none of them, all for as
# many epochs. Labels alone, on FER2013, at 32x32, where an epoch takes 0.45 of the time of one at 48x48; the network is a
# student of 164,383 parameters. docs/training.md has what came out.
#
#   benchmarks/recipes.sh path/to/fer2013.csv OUT [SEED...]
#
# Two runs of one thread each at a time. Every run goes on where it stopped when the script is run again.
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
data=$1 out=$2
shift 2
seeds=("${@:-0}")
train=(python "$(dirname "$0")/fast_cpu.py" distill.train_student --data "$data" --student slim_resnet --image-size 32
  --epochs 12 --schedule cosine --batch-size 128 --lr 0.002)
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
adamw="--optimizer adamw --weight-decay 0.02" smooth="--label-smoothing 0.1"
turn="--view.rotation 15 --view.zoom 0.8 1.1 --view.shift 0.1" still="--view.rotation 0 --view.zoom 1 1 --view.shift 0"
light="--view.brightness 0.15 --view.contrast 0.3" even="--view.brightness 0 --view.contrast 0"
erase="--view.erase 0.4"
strong="$adamw $smooth $turn $light $erase"
arms=(
  "strong $strong"
  "without-smoothed-labels $adamw $turn $light $erase"
  "without-weight-decay $smooth $turn $light $erase"
  "without-erasing $adamw $smooth $turn $light"
  "without-turns $adamw $smooth $still $light $erase"
  "without-brightness $adamw $smooth $turn $even $erase"
  "flips-alone $adamw $smooth $still $even"
  "none $still $even"
  "with-average $strong --ema 0.999"
  "with-mixup $strong --view.mixup 0.2"
  "with-cutmix $strong --view.cutmix 0.2"
)

for seed in "${seeds[@]}"; do
  for arm in "${arms[@]}"; do
    read -r name flags <<< "$arm"
    while (($(jobs -rp | wc -l) >= 2)); do wait -n; done
    # shellcheck disable=SC2086  # flags are several words
    "${train[@]}" $flags --seed "$seed" --out "$out/$name-$seed" &
  done
done
wait
for arm in "${arms[@]}"; do
  name=${arm%% *}
  echo "$name:"
  python "$(dirname "$0")/summarise_runs.py" "${seeds[@]/#/$out/$name-}"
done
