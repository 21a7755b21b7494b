#!/usr/bin/env bash
# What each ingredient of the recipe "strong" is worth: it alone left out, others alone added, and the published recipes, all
# for as many epochs. Labels alone, on FER2013. Checked with a stub in the place of python, not run yet.
#
#   benchmarks/recipes.sh path/to/fer2013.csv OUT [SEED...]
#
# Two runs of one thread each at a time. Every run goes on where it stopped when the script is run again.
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
data=$1 out=$2
shift 2
seeds=("${@:-0}")
train=(python "$(dirname "$0")/fast_cpu.py" distill.train_teacher --data "$data" --teacher plain_resnet_tiny --epochs 16)
export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
still=(--view.rotation 0 --view.zoom 1 1 --view.shift 0)
arms=()

arm() {  # NAME FLAGS...: the arm of each seed, as soon as fewer than two others run
  arms+=("$1")
  for seed in "${seeds[@]}"; do
    while (($(jobs -rp | wc -l) >= 2)); do wait -n; done
    "${train[@]}" "${@:2}" --seed "$seed" --out "$out/$1-$seed" &
  done
}

arm strong --recipe strong
arm without-smoothed-labels --recipe strong --label-smoothing 0
arm without-weight-decay --recipe strong --optimizer adam --weight-decay 0
arm without-erasing --recipe strong --view.erase 0
arm without-turns --recipe strong "${still[@]}"
arm without-brightness --recipe strong --view.brightness 0 --view.contrast 0
arm flips-alone --recipe strong "${still[@]}" --view.brightness 0 --view.contrast 0 --view.erase 0
arm with-average --recipe strong --ema 0.999
arm with-mixup --recipe strong --view.mixup 0.2
arm with-cutmix --recipe strong --view.cutmix 0.2
arm fer_cnn --recipe fer_cnn
arm facenet --recipe facenet
wait
for name in "${arms[@]}"; do
  echo "$name:"
  python "$(dirname "$0")/summarise_runs.py" "${seeds[@]/#/$out/$name-}"
done
