#!/usr/bin/env bash
# Labels, logits, features and mixed pictures on pictures that are no faces: what does which knowledge add?
# Three seeds of each arm, equal epochs. Every step goes on where it stopped when it is run again.
#
#     benchmarks/ten_shapes.sh OUT
set -euo pipefail
out=$1
export PYTHONPATH="$(dirname "$0"):${PYTHONPATH:-}"
data=(--data ten_shapes:draw)
views=(--view.rotation 180 --view.zoom 0.7 1.3 --view.shift 0.15)
mixed=(--view.mixup 0.3 --view.cutmix 0.2)
feature=(--feature-loss hint --feature-weight 0.1 --feature-layers avg_pool=avg_pool)
student=(python -m distill.train_student "${data[@]}" --student slim_resnet_small --image-size 32 --epochs 24 --lr 0.002
  --optimizer adamw --weight-decay 0.02)
hinton=(--loss hinton --temperature 2 --lambda 0.9)

python -m distill.train_teacher "${data[@]}" --teacher resnet10 --image-size 32 --recipe strong --epochs 40 --ema 0.99 \
  "${views[@]}" "${mixed[@]}" --out "$out/teacher"
teacher=(python -m distill.teacher_logits "${data[@]}" --teacher resnet10 --weights "$out/teacher" --views 24
  --features avg_pool "${views[@]}")
"${teacher[@]}" --out "$out/plain.h5"
"${teacher[@]}" "${mixed[@]}" --out "$out/mixed.h5"

for seed in 0 1 2; do
  "${student[@]}" --seed $seed "${views[@]}" --views 24 --out "$out/labels-$seed"
  "${student[@]}" --seed $seed "${views[@]}" "${mixed[@]}" --views 24 --out "$out/labels-mixed-$seed"
  for kind in plain mixed; do
    logits=(--logits "$out/$kind.h5" --seed $seed)
    "${student[@]}" "${logits[@]}" "${hinton[@]}" --out "$out/logits-$kind-$seed"
    "${student[@]}" "${logits[@]}" --loss hinton --lambda 0 "${feature[@]}" --out "$out/features-$kind-$seed"
    "${student[@]}" "${logits[@]}" "${hinton[@]}" "${feature[@]}" --out "$out/both-$kind-$seed"
  done
done
for arm in labels labels-mixed logits-plain logits-mixed features-plain features-mixed both-plain both-mixed; do
  echo "== $arm"
  python "$(dirname "$0")/summarise_runs.py" "$out/$arm"-[0-9]
done
