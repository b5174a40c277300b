#!/usr/bin/env bash
# Makes a small folder of real footage, as a device and an office would leave it: two videos with sound in different
# codecs, one audio file, two photos, one PDF, and the manifest that says what they are. Needs ffmpeg.
# Usage: deploy/demo-footage.sh DIR
set -Eeuo pipefail
dir=${1:?usage: deploy/demo-footage.sh DIR}
mkdir -p -- "$dir"
cd -- "$dir"
make() { [[ -e ${*: -1} ]] || ffmpeg -v error -nostdin "$@"; }
picture() { echo "testsrc2=size=$1:rate=25:duration=$2,drawtext=text='$3 %{pts\\:hms}':fontsize=48:x=40:y=40:box=1"; }
sound() { echo "sine=frequency=$1:duration=$2"; }

make -f lavfi -i "$(picture 1280x720 12 recorder)" -f lavfi -i "$(sound 440 12)" \
  -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac '现场检查 0001.mp4'
make -f lavfi -i "$(picture 640x360 8 camera)" -f lavfi -i "$(sound 660 8)" \
  -c:v mpeg2video -b:v 3M -c:a mp2 'site-camera.ts'
make -f lavfi -i "$(sound 330 15)" -c:a libmp3lame '询问录音.mp3'
make -f lavfi -i "testsrc2=size=1600x1200:rate=1:duration=1" -frames:v 1 -q:v 3 'photo-1.jpg'
make -f lavfi -i "mandelbrot=size=1024x768:rate=1" -frames:v 1 'photo-2.png'
if [[ ! -e 检查笔录.pdf ]]; then
  printf '%%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>endobj\n4 0 obj<</Length 58>>stream\nBT /F1 24 Tf 72 760 Td (Inspection record 2026-0042) Tj ET\nendstream endobj\n5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%%%EOF\n' >检查笔录.pdf
fi
# Recorded within the last hour, so that it is in time (Article 13).
at() { TZ=Asia/Shanghai date -d "$1" '+%Y-%m-%d %H:%M:%S'; }
[[ -e manifest.csv ]] || cat >manifest.csv <<CSV
文件,来源,执法事项,记录形式,科室,执法人员,设备编号,监控地点,开始时间,结束时间,文书编号,案号,已告知
现场检查 0001.mp4,执法记录仪,行政监督检查,音像,综合监督科,张三;李四,DSJ-0042,,$(at "-50 min"),$(at "-50 min +12 sec"),,,是
site-camera.ts,视频监控,行政监督检查,音像,综合监督科,张三,,候诊大厅,$(at "-55 min"),$(at "-55 min +8 sec"),,,
询问录音.mp3,录音机,行政处罚,音像,医疗监督科,王五,LY-7,,$(at "-30 min"),$(at "-30 min +15 sec"),,2026-罚-17,是
photo-1.jpg,照相机,行政监督检查,音像,综合监督科,张三,XJ-3,,$(at "-45 min"),$(at "-45 min"),,,
photo-2.png,照相机,行政监督检查,音像,综合监督科,张三,XJ-3,,$(at "-44 min"),$(at "-44 min"),,,
检查笔录.pdf,文书,行政监督检查,文书,综合监督科,李四,,,,,WS-2026-0042,,
CSV
