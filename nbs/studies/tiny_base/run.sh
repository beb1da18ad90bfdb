#!/bin/bash
# Pre-train a base: renderers in the background, then the features, the autoencoder and the UNet, each for its minutes.
# usage: run.sh OUT [DEVICE]    (OUT becomes a base that load_base reads; run it again to go on from what OUT holds)
# From the environment: FEATURES_MINUTES, VAE_MINUTES, UNET_MINUTES (0 leaves a leg out), FEATURES_ARGS, VAE_ARGS, UNET_ARGS (more
# arguments of a leg), WORKERS (renderers), SHARDS (where rendered scenes lie: 12 GB for 240,000), PYTHON.
set -e
OUT=$(realpath -m "${1:?usage: run.sh OUT [DEVICE]}") DEVICE=${2:-cuda}
SHARDS=$(realpath -m "${SHARDS:-$OUT/shards}") WORKERS=${WORKERS:-$(nproc)} PYTHON=${PYTHON:-python}
HERE=$(dirname "$(realpath "$0")")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} PYTHONUNBUFFERED=1
mkdir -p "$OUT" "$SHARDS"
rm -f "$SHARDS/stop"
trap 'touch "$SHARDS/stop"' EXIT
for ((i = 0; i < WORKERS; i++)); do nice -n 19 "$PYTHON" "$HERE/legs.py" render "$SHARDS" $i "$WORKERS" & done

leg() { # NAME MINUTES FILE ARGUMENTS: go on from OUT if it holds FILE
  local from=()
  [ "$2" != 0 ] || return 0
  [ ! -e "$OUT/$3" ] || from=(--from "$OUT")
  # shellcheck disable=SC2086  # arguments are words
  "$PYTHON" "$HERE/$1_leg.py" --device "$DEVICE" --out "$OUT" --shards "$SHARDS" --minutes "$2" "${from[@]}" $4
}
leg features "${FEATURES_MINUTES:-0.8}" features/head.safetensors "$FEATURES_ARGS"
leg vae "${VAE_MINUTES:-4.2}" vae/config.json "$VAE_ARGS"
leg unet "${UNET_MINUTES:-4.3}" vocabulary.safetensors "$UNET_ARGS"
