#!/usr/bin/env bash
# Trains the networks that ship into $OUT (default runs/ship); `make ship` calls it. Started again after any stop, it
# goes on: each command resumes its run, and one that is finished ends at once. 2 CPU cores need several hours.
#   POLYP_DATA=…           the folder of the data sets (see polyp_lightning/data/splits/README.md)
#   WEIGHTS=FILE           the encoder's ImageNet weights, where there is no network to download them
#   TEACHER_WEIGHTS=FILE   those of the teacher's encoder, tf_efficientnet_lite0
#   ARGS="--trainer.…"     more options for every run
set -euo pipefail
out=${OUT:-runs/ship}
python=${PYTHON:-.venv/bin/python}

train() { # NAME OPTION…
  local name=$1
  shift
  # shellcheck disable=SC2086 # ARGS are several
  "$python" -m polyp_lightning fit --config configs/ship.yaml --trainer.default_root_dir "$out/$name" --ckpt_path auto \
    "$@" ${ARGS:-}
}

# At 352², from an earlier checkpoint.
train_on() { # NAME FROM OPTION…
  local name=$1 from=$2
  shift 2
  train "$name" --model.init_from "$from" --model.encoder_weights null --data.image_size 352 "$@"
}

pack() { "$python" tests/ship/packing.py "$@"; }

# The teacher: a smaller encoder, other augmentation, the mean of three runs.
smaller=(--model.encoder timm-tf_efficientnet_lite0 --data.augmentation strong)
train teacher-base "${smaller[@]}" --model.encoder_weights "${TEACHER_WEIGHTS:-imagenet}"
train_on teacher-1 "$out/teacher-base/checkpoints/last.ckpt" "${smaller[@]}" --model.lr 5e-4 --trainer.max_epochs 6
train_on teacher-2 "$out/teacher-1/checkpoints/last.ckpt" "${smaller[@]}" --model.lr 5e-4 --trainer.max_epochs 6
train_on teacher "$out/teacher-2/checkpoints/last.ckpt" "${smaller[@]}" --trainer.max_epochs 10 --trainer.precision bf16-mixed
pack --out "$out" "$out/teacher"

# Two processes, one on each core; on one GPU: ARGS="--trainer.accelerator gpu --trainer.devices 1 --trainer.strategy auto"
two=(--trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp_find_unused_parameters_true)
fast=(--trainer.precision bf16-mixed)
train base "${two[@]}" "${fast[@]}" --model.encoder_weights "${WEIGHTS:-imagenet}"
train_on dense-1 "$out/base/checkpoints/last.ckpt" "${two[@]}" "${fast[@]}" --trainer.max_epochs 6

# From there in 14 epochs: the dense network, and two that are cut as realtime.yaml does it.
taught=(--model.distill_from "$out/teacher.ckpt" --trainer.max_epochs 14 "${fast[@]}")
cut=(--config configs/realtime.yaml --data.name mix --data.split null --data.augmentation hospitals "${taught[@]}"
  --pruning.latency_table "$out/openvino-352.json")
train_on dense "$out/dense-1/checkpoints/last.ckpt" "${two[@]}" "${taught[@]}"
train_on realtime "$out/dense-1/checkpoints/last.ckpt" "${cut[@]}" --pruning.target "8.4 ms"
train_on fast "$out/dense-1/checkpoints/last.ckpt" "${cut[@]}" --pruning.target "6 ms"
pack "$out"/{dense,realtime,fast}

# The look at the test images.
"$python" tests/ship/check.py --out "$out/check" --write_card
