"""The `workbench` command."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="workbench", description="An LLM inference engine that you can look into.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="prompts streamed side by side in this terminal, with requests and blocks")
    demo.add_argument("prompts", nargs="*", help="your own prompts (default: six openings of stories)")
    demo.add_argument("--model", help="a directory or hub id (default: the bundled model)")
    demo.add_argument("--max-tokens", type=int, default=80, help="new tokens for each prompt (default: 80)")
    demo.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (default: 0.8)")
    demo.add_argument("--blocks", type=int, default=24, help="KV blocks in the pool; few enough to see preemption (24)")
    demo.add_argument("--speed", type=float, default=30.0, help="steps a second; 0 for full speed (default: 30)")
    bench = commands.add_parser("bench", help="measure this machine: ratios of things run back to back")
    bench.add_argument("what", nargs="*", help="which measurements (default: all); see `workbench bench --list`")
    bench.add_argument("--list", action="store_true", help="name the measurements and end")
    bench.add_argument("--rounds", type=int, default=5, help="alternating rounds (default: 5)")
    bench.add_argument("--nano-vllm", metavar="FOLDER", help="a checkout of nano-vllm: its scheduler beside ours")
    bench.add_argument(
        "--server", metavar="URL", action="append", default=[], help="throughput, single: a server that is running"
    )
    bench.add_argument(
        "--vllm", metavar="PYTHON", help="the same: the interpreter of an environment with vLLM, to start"
    )
    bench.add_argument("--llama-server", metavar="PATH", help="the same: llama.cpp's server, to start")
    bench.add_argument(
        "--model",
        default="bundled",
        help="throughput, single: bundled, or random weights: 135M, 0.6B (default: bundled)",
    )
    bench.add_argument(
        "--workload", metavar="NAME", action="append", default=[], help="throughput, single: S1, S16, W1, W2, W3 or W4"
    )
    bench.add_argument("--json", metavar="FILE", help="write the figures to a file too, with machine and versions")
    bench.add_argument("--csv", metavar="FILE", help="the same as a table")
    bench.add_argument("--soak", type=float, default=0.0, metavar="SECONDS", help="ui: that long under traffic too")
    bench.add_argument("--charts", metavar="FOLDER", help="draw rooflines and curves as pages in this folder")
    args = parser.parse_args(argv)
    if args.command == "demo":
        from workbench.demo import run_demo

        return run_demo(args.prompts, args.model, args.max_tokens, args.temperature, args.blocks, args.speed)
    from workbench.bench.run import Options, run_bench

    charts = None if args.charts is None else Path(args.charts)
    options = Options(
        rounds=args.rounds,
        nano_vllm=args.nano_vllm,
        charts=charts,
        servers=tuple(args.server),
        soak=args.soak,
        model=args.model,
        workloads=tuple(args.workload),
        vllm=args.vllm,
        llama_server=args.llama_server,
    )
    return run_bench(args.what, options, args.list, args.json, args.csv)
