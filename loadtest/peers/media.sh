#!/usr/bin/env bash
# The media worker beside the ffmpeg command at the same settings, in rounds that alternate: proxies of real clips; and how long
# the contact sheet of an hour takes, and how much of the original is read. Prints a table and writes it into loadtest/README.md.
# Usage: loadtest/peers/media.sh [ROUNDS]     5 by default
set -Eeuo pipefail
# shellcheck source=loadtest/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../lib.sh"
rounds=${1:-5}
command -v ffmpeg >/dev/null || debian_packages ffmpeg
build
scratch=$(mktemp -d -- "${TMPDIR:-/tmp}/caselock-load.XXXXXX")
trap 'rm -rf -- "$scratch"' EXIT
clips=$(footage media --count 1 --codec h264 --seconds 30)
# An hour as a camera makes it, 4 Mb/s: half a minute, again and again.
hour=$(cache_dir)/loadtest/hour.mp4
if [[ ! -f $hour ]]; then
  say "going to make an hour of video"
  ffmpeg -v error -y -i "$clips"/*.mp4 -c:v libx264 -preset veryfast -b:v 4M -maxrate 4M -bufsize 8M -g 50 -c:a copy "$scratch/part.mp4"
  ffmpeg -v error -y -stream_loop 119 -i "$scratch/part.mp4" -c copy "$scratch/hour.mp4"
  mv -- "$scratch/hour.mp4" "$hour"
fi
python3 "$loadtest/peers/media.py" "$rounds" "$programs/caselock-media-worker" "$scratch" "$hour" "$loadtest/README.md" "$clips"/*.mp4
