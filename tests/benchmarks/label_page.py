"""Load of the page of `modal-clip-dual label`: many small files, one person.

    python tests/benchmarks/label_page.py --images 100000

Writes the files (digits with noise, 16 x 16 pixels) to a temporary folder, starts the command on it with the bundled
CLIP, and asks as the page does: the state, thumbnails, answers, confirmations, while the model trains behind it.
Prints a Markdown table.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from modal_clip_dual.data import load_digits_images


def write_images(folder, n):
    digits = load_digits_images()
    rng = np.random.default_rng(0)
    for k in range(n):
        part = folder / f"{k // 1000:03}"
        part.mkdir(exist_ok=True)
        image = np.kron(digits.images[k % len(digits.images)], np.ones((2, 2), dtype=np.uint8)).astype(int)
        noisy = np.clip(image + rng.integers(-20, 20, size=image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(part / f"{k:06}.png")
    return digits.class_names


def start(folder, cache, names):
    command = [sys.executable, "-m", "modal_clip_dual", "label", str(folder), "--classes", ",".join(names), "--model",
               "demo", "--device", "cpu", "--no-browser", "--cache", str(cache)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            return process, found.group()
    raise SystemExit("the program ended")


def until(client, holds):
    """Wait for a state; return it and the seconds spent in each phase."""
    began, seconds = time.perf_counter(), {}
    state = client.get("api/state").json()
    while not holds(state):
        phase, last = state["status"]["phase"], time.perf_counter()
        state = client.get("api/state", params={"since": state["version"]}).json()
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - last
        if state["status"]["phase"] == "error":
            raise SystemExit(state["status"]["message"])
    return state, seconds, time.perf_counter() - began


def shown(values):
    ordered = sorted(values)
    return f"{1000 * statistics.median(ordered):.0f} / {1000 * ordered[int(0.95 * (len(ordered) - 1))]:.0f}"


def ask_meanwhile(url, stop, times):
    """Ask for thumbnails one after the other, as a person who looks through images, until told to stop."""
    rng = np.random.default_rng(1)
    with httpx.Client(base_url=url, timeout=120) as client:
        pool = client.get("api/state").json()["pool"]
        while not stop.is_set():
            began = time.perf_counter()
            client.get(f"thumb/{rng.integers(pool)}")
            times.append(time.perf_counter() - began)
            stop.wait(0.05)


def measure(client, url, rounds):
    """Response times of each kind, seconds; those of thumbnails also while the model trains."""
    times = {name: [] for name in ("state", "thumbnail", "one answer", "confirm", "thumbnail, while it trains")}
    waits = []

    def timed(name, ask):
        began = time.perf_counter()
        answer = ask()
        times[name].append(time.perf_counter() - began)
        return answer

    for _ in range(rounds):
        state = client.get("api/state").json()
        for tile in state["grid"]["tiles"]:
            timed("thumbnail", lambda tile=tile: client.get(f"thumb/{tile['row']}"))
            timed("state", lambda: client.get("api/state"))
        for tile in state["grid"]["tiles"][:5]:
            answer = {"answers": [{"row": tile["row"], "what": "label", "name": tile["name"]}]}
            timed("one answer", lambda answer=answer: client.post("api/say", json=answer))
        stop = threading.Event()
        other = threading.Thread(target=ask_meanwhile, args=(url, stop, times["thumbnail, while it trains"]))
        other.start()
        number = state["grid"]["number"]
        timed("confirm", lambda number=number: client.post("api/confirm", json={"number": number}))
        waits.append(until(client, lambda s, n=number: s["grid"] and s["grid"]["number"] > n)[2])
        stop.set()
        other.join()
    return times, waits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder, cache = Path(root, "images"), Path(root, "cache")
        folder.mkdir()
        cache.mkdir()
        began = time.perf_counter()
        names = write_images(folder, args.images)
        print(f"{args.images:,} files written in {time.perf_counter() - began:.0f} s", flush=True)
        for again in (False, True):
            began = time.perf_counter()
            process, url = start(folder, cache, names)
            try:
                started = time.perf_counter() - began
                with httpx.Client(base_url=url, timeout=3600) as client:
                    _, seconds, _ = until(client, lambda s: s["grid"])
                    times, waits = measure(client, url, args.rounds)
                memory = psutil.Process(process.pid).memory_info().rss >> 20
                report(again, started, seconds, times, waits, memory)
            finally:
                process.send_signal(2)
                process.wait(120)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


def report(again, started, seconds, times, waits, memory):
    print(f"\n{'Started again' if again else 'First start'}\n\n| what | |\n|---|---|")
    print(f"| command to address of the page | {started:.1f} s |")
    print(f"| encoding | {seconds.get('encoding', 0):.0f} s |")
    print(f"| first grid after that | {seconds.get('training', 0) + seconds.get('choosing', 0):.1f} s |")
    print(f"| a confirmed grid to the next | {', '.join(f'{wait:.1f}' for wait in waits)} s |")
    for name, values in times.items():
        print(f"| {name}, median / 95% of {len(values)} | {shown(values)} ms |")
    print(f"| memory of the process | {memory:,} MiB |", flush=True)


if __name__ == "__main__":
    main()
