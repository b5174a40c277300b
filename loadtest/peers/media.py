"""Times the media worker beside ffmpeg, prints a table, and writes it into the README.

Usage: media.py ROUNDS WORKER SCRATCH HOUR README CLIP…
"""

import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import page

rounds, worker, scratch, hour, readme, *clips = sys.argv[1:]
scratch = pathlib.Path(scratch)


def run(command, original=None, outputs=()):
    """Runs a command with files as its input and outputs: seconds, processor seconds, bytes it asked to read."""
    files = [open(scratch / name, "wb+") for name in outputs]
    flags = [flag for name, file in zip(outputs, files) for flag in ("--out", f"{name}={file.fileno()}")]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, *flags],
        stdin=open(original, "rb") if original else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=[file.fileno() for file in files],
    )
    said = process.stdout.read()
    # Until it is waited for, what it did can still be asked.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - began
    io = pathlib.Path(f"/proc/{process.pid}/io").read_text()
    read = int(next(line for line in io.splitlines() if line.startswith("rchar")).split()[1])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, process.returncode, said)
    return seconds, used.ru_utime + used.ru_stime, read, said


def ours(clip, *outputs):
    return run([worker, "--kind", "video"], clip, outputs)


def ffmpeg(clip):
    """The same proxy: at most 720 high, H.264 veryfast 23 with closed groups of 60, AAC of 64 kb/s a channel."""
    settings = "-vf scale=-2:min(720\\,ih) -pix_fmt yuv420p -c:v libx264 -preset veryfast -crf 23 -g 60 -flags +cgop"
    sound = "-c:a aac -ar 48000 -ac 1 -b:a 64k -movflags +faststart"
    target = scratch / "peer.mp4"
    return run(["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", clip, *settings.split(), *sound.split(), str(target)])


def length(path):
    probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    return float(subprocess.run(probe, check=True, capture_output=True).stdout)


names = ["proxy, ours", "proxy, ffmpeg", "probe, poster, sheet and proxy, ours", "contact sheet of an hour, ours"]
seen = {name: [] for name in names}
for _ in range(int(rounds)):
    for clip in clips:
        size = os.path.getsize(clip)
        for name, made in [
            (names[0], lambda: ours(clip, "proxy")),
            (names[1], lambda: ffmpeg(clip)),
            (names[2], lambda: ours(clip, "poster", "contact-sheet", "proxy")),
        ]:
            seconds, used, read, _ = made()
            seen[name].append((seconds, used, read / size))
        assert abs(length(scratch / "proxy") - length(scratch / "peer.mp4")) < 0.2
    seconds, used, read, said = ours(hour, "contact-sheet")
    assert not json.loads(said)["warnings"], said
    seen[names[3]].append((seconds, used, read / os.path.getsize(hour)))

table = ["| | seconds, median (spread) | speed, of ffmpeg | core-s | read of the original |", "|---|---|---|---|---|"]
for name, values in seen.items():
    pairs = [theirs[0] / own[0] for own, theirs in zip(values, seen[names[1]])]
    ratio = f"{statistics.median(pairs):.2f}" if name in (names[0], names[2]) else ""
    used, read = (statistics.median(value[place] for value in values) for place in (1, 2))
    seconds = page.spread([value[0] for value in values], statistics.median, ".2f")
    table.append(f"| {name} | {seconds} | {ratio} | {used:.2f} | {read:.2f} × |")
clip = f"{length(clips[0]):.0f} s of 1080p, {os.path.getsize(clips[0]) / 1e6:.0f} MB; the hour {os.path.getsize(hour) / 1e9:.1f} GB"
table.append(f"\n`loadtest/peers/media.sh {rounds}`, {datetime.date.today().isoformat()}; a clip of {clip}.")
text = "\n".join(table)
print(text)
page.write(readme, "media", text)
