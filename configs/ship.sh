#!/usr/bin/env bash
# Trains the networks that ship into $OUT (default runs/ship); `make ship` calls it. Started again after any stop, it
# goes on: each command resumes its run, and one that is finished ends at once. 2 CPU cores need several hours.
#   POLYP_DATA=…           the folder of the data sets (see polyp_lightning/data/splits/README.md)
#   WEIGHTS=FILE           the encoder's ImageNet weights, where there is no network to download them
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

# At 352², from the last epoch of an earlier run; each network that ships has had 12 + 6 + 6 + 10 epochs.
train_on() { # NAME FROM TARGET OPTION…
  local name=$1 from=$2 target=$3
  shift 3
  train "$name" --model.init_from "$out/$from/checkpoints/last.ckpt" --model.encoder_weights null \
    --pruning.target "$target" --data.image_size 352 --model.lr 5e-4 --trainer.max_epochs 6 --pruning.end 2 "$@"
}

train base --model.encoder_weights "${WEIGHTS:-imagenet}"
train_on realtime-1 base 0.30
train_on dense-1 base 1
train_on realtime-2 realtime-1 1
train_on dense-2 dense-1 1
longer=(--model.lr 1e-3 --trainer.max_epochs 10 --trainer.precision bf16-mixed)
train_on dense dense-2 1 "${longer[@]}"
train_on realtime realtime-2 1 "${longer[@]}" --model.distill_from "$out/dense-2/checkpoints/last.ckpt"
train_on fast realtime-2 0.667 "${longer[@]}"

# Into the package, with alarm thresholds chosen on validation images; then the first look at a test image.
"$python" tests/ship/packing.py "$out"/{dense,realtime,fast}
"$python" tests/ship/check.py --out "$out/check" --write_card
