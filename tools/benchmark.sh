#!/usr/bin/env bash
# Measures speed and memory of WeightFormer beside DeiT, ConvNeXt and ResNet of similar cost, and writes a
# report.
#
#   bash tools/benchmark.sh [REPORT]        (default: docs/benchmarks.md)
#
# SIZES, BATCH (images in a batch at 224 pixels) and TURNS are environment variables. Models of one table
# take turns on the same machine, and ratios are medians over the turns.
set -euo pipefail
cd "$(dirname "$0")/.."
report=${1:-docs/benchmarks.md}
python=${PYTHON:-.venv/bin/python}
read -ra sizes <<<"${SIZES:-224 512 1024 1248}"
batch=${BATCH:-8} turns=${TURNS:-7}
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

tiny='plain:weightformer-tiny weightformer-tiny timm:deit_tiny_patch16_224'
beside_tiny='timm:convnext_pico timm:resnet18'
compiled='compiled:plain:weightformer-tiny compiled:weightformer-tiny compiled:timm:deit_tiny_patch16_224'
small='plain:weightformer-small weightformer-small timm:deit_small_patch16_224'
beside_small='timm:convnext_tiny timm:resnet50'

# table TITLE SIZE BATCH MODELS [OPTIONS]
table() {
  echo "[benchmark] $1, $2 pixels" >&2
  printf '\n### %s, %s pixels\n\n' "$1" "$2"
  # shellcheck disable=SC2086
  "$python" -m mmwf benchmark $4 --sizes $2 --batch-size "$3" --turns "$turns" --out "$results/out" \
    "${@:5}" | grep -v '^Written' | cat -s || echo 'Not measured: the command failed.'
}

{
  echo '# Benchmarks'
  echo
  echo "Written by \`bash tools/benchmark.sh\` on $(date +%F). Backbones without heads, random weights and images."
  echo 'Ratios are to the first model of a table, where `plain` evaluates the equations as they are in the paper.'
  echo 'Memory is what PyTorch allocates at the peak, weights included, per image.'
  printf '\n## Inference\n'
  for size in "${sizes[@]}"; do
    n=$batch
    [ "$size" -le 224 ] || n=1
    models="$tiny $beside_tiny"  # plain attention needs memory for pixels squared: not at large sizes
    [ "$size" -gt 512 ] || models+=' timm-plain:deit_tiny_patch16_224'
    table 'Tiny models' "$size" "$n" "$models"
  done
  table 'Small models' "${sizes[0]}" "$batch" "$small $beside_small"
  table 'Cost of large images' '1024 2048' 1 weightformer-tiny
  for size in "${sizes[0]}" 1024; do
    n=$batch
    [ "$size" -le 224 ] || n=1
    table 'Compiled' "$size" "$n" "$tiny $compiled"
  done
  table 'bf16 (autocast)' "${sizes[0]}" "$batch" "$tiny $compiled" --dtype bf16
  printf '\n## Training: forward and backward\n'
  for size in "${sizes[@]:0:3}"; do
    n=$batch
    [ "$size" -le 224 ] || n=1
    table 'Tiny models' "$size" "$n" "$tiny" --mode forward-backward
  done
  table 'Small models' "${sizes[0]}" "$batch" "$small" --mode forward-backward
  table 'Tiny models, bf16 (autocast)' "${sizes[0]}" "$batch" "$tiny" --mode forward-backward --dtype bf16
} > "$results/report.md"
mv "$results/report.md" "$report"
echo "Written: $report"
