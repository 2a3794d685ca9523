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

# At 352², from an earlier checkpoint.
train_on() { # NAME FROM OPTION…
  local name=$1 from=$2
  shift 2
  train "$name" --model.init_from "$from" --model.encoder_weights null --data.image_size 352 "$@"
}

train base --model.encoder_weights "${WEIGHTS:-imagenet}"
train_on dense-1 "$out/base/checkpoints/last.ckpt" --model.lr 5e-4 --trainer.max_epochs 6
train_on dense-2 "$out/dense-1/checkpoints/last.ckpt" --model.lr 5e-4 --trainer.max_epochs 6
train_on dense "$out/dense-2/checkpoints/last.ckpt" --trainer.max_epochs 10 --trainer.precision bf16-mixed

# Into the package: the mean of the three, with an alarm threshold chosen on validation images.
pack() { "$python" tests/ship/packing.py "$@"; }
pack "$out/dense"

# From there as realtime.yaml does it. The control is the dense network for as long; by validation it was not better.
last=(--config configs/realtime.yaml --data.name mix --data.split null --trainer.precision bf16-mixed)
cut=("${last[@]}" --model.distill_from dense --pruning.latency_table "$out/openvino-352.json")
train_on realtime dense "${cut[@]}" --pruning.target "10 ms"
train_on fast dense "${cut[@]}" --pruning.target "6.2 ms"
train_on control dense "${last[@]}" --pruning.target 1
pack "$out"/{realtime,fast}

# At last, by settings chosen so far, on most of the validation images too; too few are left to choose a checkpoint by.
final=(--data.split 880-120-final,sequence-final,train-c1-c2-c3-c5,train-only --model.lr 5e-4
  --trainer.precision bf16-mixed)
train_on final/dense dense "${final[@]}" --trainer.max_epochs 6
pack --last "$out/final/dense"
train_on final/realtime realtime "${final[@]}" --trainer.max_epochs 6 --model.distill_from dense
train_on final/fast fast "${final[@]}" --trainer.max_epochs 8 --model.distill_from dense
pack --last "$out"/final/{realtime,fast}

# Longer, by a teacher that looks at each frame's mirror image too: by validation it helped realtime, and fast not.
longer=("${final[@]}" --model.lr 1e-3 --model.distill_from dense --model.distill_mirrored true)
train_on longer/realtime realtime "${longer[@]}" --trainer.max_epochs 10
train_on longer/fast fast "${longer[@]}" --trainer.max_epochs 12
for name in realtime fast; do
  last=$out/longer/$name/checkpoints/last.ckpt
  "$python" tests/ship/compare.py "$name" "$last" "$name+$last"
done
pack --last "$out/longer/realtime"

# The look at the test images.
"$python" tests/ship/check.py --out "$out/check" --write_card
