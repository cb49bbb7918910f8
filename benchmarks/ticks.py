"""The agent of the streams: prints pieces of text at a steady rate, each with its number and its time of writing.

What it printed it also puts into a file, to be compared with what arrives. Run as `python -IS ticks.py RATE SECONDS`.
"""

import os
import sys
import time

rate, seconds = float(sys.argv[1]), float(sys.argv[2])
sys.stdin.readline()
printed = []
start = time.monotonic()
for number in range(int(rate * seconds)):
    time.sleep(max(0.0, start + number / rate - time.monotonic()))
    piece = f"{number:04d} {time.time_ns()} "
    os.write(1, b'{"type":"text","text":"%s"}\n' % piece.encode())
    printed.append(piece)
with open(os.path.join(os.environ["PRINTED_FOLDER"], os.environ["LONGWICK_RUN_ID"]), "w") as file:
    file.write("".join(printed))
os.write(1, b'{"type":"result"}\n')
