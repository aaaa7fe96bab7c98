// Builders of records and frames for the tests, and a source that a test drives by hand.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

import type { DecisionRow, SampledRow, SnapshotWire, StepRecord, StepRecordWire } from "../src/generated.ts";
import type {
  CommandArgs,
  CommandName,
  ComparisonData,
  EngineInfo,
  PreviewResult,
  FramePayload,
  Status,
  WhyResult,
} from "../src/protocol.ts";
import { RecordReader } from "../src/record_reader.ts";
import type { Source, SourceHandlers } from "../src/source.ts";

export function status(changes: Partial<Status> = {}): Status {
  return {
    state: "running",
    paused_at: null,
    speed: null,
    step: 0,
    time: 0,
    max_num_seqs: 4,
    max_num_batched_tokens: 64,
    num_running: 0,
    num_waiting: 0,
    memory: [],
    dropped_steps: 0,
    message: null,
    ...changes,
  };
}

export function snapshot(numBlocks = 8, changes: Partial<SnapshotWire> = {}): SnapshotWire {
  return {
    step: -1,
    pool: [numBlocks, 4, "float32", 100],
    block_tables: {},
    ref_counts: new Array<number>(numBlocks).fill(0),
    block_hashes: new Array<string>(numBlocks).fill(""),
    free_blocks: Array.from({ length: numBlocks }, (_, i) => i),
    waiting: [],
    running: [],
    requests: {},
    ...changes,
  };
}

/** A record whose decisions and sampled tokens are given as rows. */
type RecordRows = Omit<StepRecordWire, "decisions" | "sampled"> & { decisions: DecisionRow[]; sampled: SampledRow[] };

/** A record as the first one of a frame, so that it can stand anywhere in one. */
export function record(step: number, changes: Partial<RecordRows> = {}): StepRecordWire {
  const { decisions = [], sampled = [], ...others } = changes;
  return {
    step,
    time: step,
    times: [0.1, 0.1, 0.2, 0.05, 0.05],
    arrivals: [],
    decisions: [
      decisions.map((d) => d[0]),
      decisions.map((d) => d[4]),
      decisions.flatMap((d, place): [number, DecisionRow][] => (d[1] === "decode" ? [] : [[place, d]])),
    ],
    block_events: [],
    sampled: [
      sampled.map((s) => s[0]),
      sampled.map((s) => s[1]),
      sampled.map((s) => s[4]),
      sampled.flatMap(([, , logprob, alternatives], place): [number, number, [number, number][]][] =>
        logprob === null ? [] : [[place, logprob, alternatives]],
      ),
    ],
    finished: [],
    changes: [],
    num_scheduled_tokens: 0,
    token_budget: 64,
    max_num_seqs: 4,
    num_free_blocks: 8,
    pool: [8, 4, "float32", 100],
    ...others,
  };
}

/** What a page reads. */
export function read(wire: StepRecordWire): StepRecord {
  return new RecordReader().read(wire);
}

export function admitted(id: string, numTokens: number): DecisionRow {
  return [id, "prefill", "admitted", numTokens, 0, 0, 0, 0, ""];
}

export function decode(id: string, numComputed: number): DecisionRow {
  return [id, "decode", "decode", 1, numComputed, 0, 0, 0, ""];
}

export function waits(id: string, reason: DecisionRow[2], need = 0, have = 0, other = ""): DecisionRow {
  return [id, "wait", reason, 0, 0, 0, need, have, other];
}

export function payload(records: StepRecordWire[], first?: SnapshotWire, changes: Partial<Status> = {}): FramePayload {
  const last = records.at(-1)?.step ?? first?.step ?? -1;
  return {
    ...(first === undefined ? {} : { snapshot: first }),
    records,
    texts: {},
    status: status({ step: last, time: last + 0.5, ...changes }),
  };
}

/** Two requests: r1 prefills 6 tokens in steps 0, then decodes to its end in step 3; r2 waits for it, then runs. */
export function shortRun(): StepRecordWire[] {
  return [
    record(0, {
      arrivals: [
        ["r1", -0.25, [1, 2, 3, 4, 5, 6], 3, 0, "r1", "one"],
        ["r2", -0.25, [7, 8], 8, 0, "r2", "two"],
      ],
      decisions: [admitted("r1", 6), waits("r2", "no_blocks", 1, 0, "r1")],
      block_events: [
        ["allocate", 0, "r1", ""],
        ["allocate", 1, "r1", ""],
        ["cache", 0, "", "aa"],
      ],
      sampled: [["r1", 10, -0.5, [[10, -0.5]], 0]],
      num_scheduled_tokens: 6,
    }),
    record(1, {
      decisions: [decode("r1", 6), waits("r2", "no_blocks", 1, 0, "r1")],
      sampled: [["r1", 11, null, [], 1]],
      num_scheduled_tokens: 1,
    }),
    record(2, {
      decisions: [decode("r1", 7), waits("r2", "behind", 0, 0, "r1")],
      block_events: [
        ["cache", 1, "", "bb"],
        ["free", 1, "r1", ""],
        ["free", 0, "r1", ""],
      ],
      sampled: [["r1", 12, null, [], 2]],
      finished: [["r1", "length", ""]],
      num_scheduled_tokens: 1,
    }),
    record(3, {
      decisions: [admitted("r2", 2)],
      block_events: [["allocate", 2, "r2", ""]],
      sampled: [["r2", 13, null, [], 0]],
      num_scheduled_tokens: 2,
    }),
  ];
}

export interface RecordedTrace {
  engine: EngineInfo;
  payload: FramePayload;
  /** The first of the payload's records, written as one frame. */
  frame: StepRecordWire[];
  /** What workbench/trace/metrics.py makes of the run. */
  latency: {
    samples: Record<"ttft" | "itl" | "e2e", { percentiles: number[]; edge: number; bins: number[] }>;
    slo: { ttft: number; itl: number; e2e: number };
    met: number;
    ended: number;
    per_second: number;
  };
  /** What llm.roofline() makes of some steps. */
  kernels: [
    step: number,
    parts: [name: string, bytes: number, flops: number, limit: number, bound: string][],
    reached: number,
  ][];
  snapshots: [step: number, snapshot: SnapshotWire][];
  why: Record<string, WhyResult>;
  preview: PreviewResult;
  comparison: ComparisonData;
  explained: [DecisionRow, string][];
}

/** A run of the real scheduler, made by dev/make_trace.py: the one kept here, or the file that the variable names. */
export function recordedTrace(): RecordedTrace {
  const other = process.env["WORKBENCH_TRACE"];
  const data = readFileSync(other ?? new URL("trace.json.gz", import.meta.url));
  return JSON.parse((other === undefined ? gunzipSync(data) : data).toString("utf8")) as RecordedTrace;
}

export class FakeSource implements Source {
  readonly interactive: boolean = true;
  readonly log: string[] = [];
  readonly commands: { id: string; name: CommandName; args: unknown }[] = [];
  handlers: SourceHandlers | null = null;

  listen(handlers: SourceHandlers): () => void {
    this.handlers = handlers;
    return () => {
      this.handlers = null;
      this.log.push("stopped");
    };
  }

  subscribe(): void {
    this.log.push("subscribe");
  }

  unsubscribe(): void {
    this.log.push("unsubscribe");
  }

  command<N extends CommandName>(id: string, name: N, args: CommandArgs[N]): void {
    this.commands.push({ id, name, args });
  }
}
