// The messages between the engine's process and a page. PROTOCOL.md tells the rules; this file holds the shapes.

import type { SnapshotWire, StepRecordWire } from "./generated.ts";
import type { SegmentRow } from "./waterfall.ts";

export const PROTOCOL_VERSION = 2;

export interface Starter {
  title: string;
  text: string;
}

export interface EngineInfo {
  engine_id: string;
  model: string;
  architecture: string;
  backend: string;
  device: string;
  dtype: string;
  max_model_len: number;
  vocab_size: number;
  num_parameters: number;
  num_layers: number;
  weight_bytes: number;
  /** Setting name -> what was asked for, what it became. */
  settings: Record<string, [requested: string, resolved: string]>;
  starters: Starter[];
}

export type EngineMode = "running" | "idle" | "paused" | "closed" | "error";
export type MemoryKind =
  "weights" | "kv_used" | "kv_cached" | "kv_free" | "kv_scales" | "workspace" | "graphs" | "slack" | "other";

/** What a device said of itself; null for what it does not tell. workbench/core/memory.py says what each means. */
export interface DeviceReading {
  name: string;
  source: string;
  total_bytes: number | null;
  used_bytes: number | null;
  own_bytes: number | null;
  utilization: number | null;
  power_watts: number | null;
  power_limit_watts: number | null;
  clock_mhz: number | null;
  memory_clock_mhz: number | null;
  temperature_celsius: number | null;
  processes: [pid: number, bytes: number | null][];
  /** Why it told nothing. */
  problem: string | null;
}

export interface MemoryRow {
  name: string;
  kind: MemoryKind;
  bytes: number;
}

/** What decides a step's bytes and operations; workbench/core/work.py says what each means. */
export interface WorkSizes {
  matrix_bytes: number;
  matrix_numbers: number;
  head_bytes: number;
  head_numbers: number;
  pair_flops: number;
}

/** What the machine can do, as measured: bytes and floating-point operations a second. */
export interface MachineLimits {
  device: string;
  dtype: string;
  threads: number;
  copy_bandwidth: number;
  matmul_peak: number;
}

export interface Status {
  state: EngineMode;
  paused_at: number | null;
  /** Steps per second; null is full speed. */
  speed: number | null;
  step: number;
  /** Seconds on the engine's clock. */
  time: number;
  max_num_seqs: number;
  max_num_batched_tokens: number;
  /** The policy in force, and all that can be chosen; a saved trace does not tell. */
  scheduling_policy?: string;
  policies?: string[];
  /** Settings that can be changed now; a saved trace has none. */
  knobs?: Knobs;
  num_running: number;
  num_waiting: number;
  memory: MemoryRow[];
  /** A saved trace has none. */
  device?: DeviceReading | null;
  /** Null where no model computes; a saved trace has neither. */
  work?: WorkSizes | null;
  /** Null until they were measured. */
  limits?: MachineLimits | null;
  /** Steps that the recorder has forgotten. */
  dropped_steps: number;
  /** What went wrong; while paused at a breakpoint: its name and what happened in the step. */
  message: string | null;
  /** Names of the breakpoints that are set. Traces saved before there were any lack it. */
  breakpoints?: string[];
  /** What goes on beside the engine for its views, the newest of each kind. */
  jobs?: {
    traffic?: TrafficProgress;
    what_if?: WhatIfProgress;
    limits?: LimitsProgress;
    lockstep?: LockstepProgress;
  };
  /** Engines that this one may be compared with, the newest last. A saved trace has none. */
  others?: [engineId: string, label: string][];
}

export type KnobValue = number | string | boolean | null;

/** Setting -> what was asked for, what is in force. */
export type Knobs = Record<string, [asked: KnobValue, inForce: KnobValue]>;

/** The KV pool and the weights in numbers; workbench/engine/change.py says what each means. */
export interface PoolFigures {
  num_blocks: number;
  block_size: number;
  kv_cache_dtype: string;
  kv_cache_bytes: number;
  num_tokens: number;
  max_concurrency: number;
  num_preempted: number;
  num_evicted: number;
  weight_bytes: number;
}

/** What a change of settings did, or would do (`measured` is then null). */
export interface Change {
  requested: Record<string, string>;
  resolved: Record<string, string>;
  before: PoolFigures;
  predicted: PoolFigures;
  measured: PoolFigures | null;
  /** Requests that were, or would be, preempted and computed again. */
  preempted: string[];
  refused: string | null;
  /** What is closest to it and would fit, for `configure`; null where nothing would or nothing was refused. */
  instead: Record<string, KnobValue> | null;
  /** What would do it one after the other, where one call does not fit: lines of Python, each with its reason. */
  calls: [code: string, why: string][];
  /** How long it held up the engine. */
  seconds: number | null;
  step: number | null;
  notes: string[];
}

export interface TrafficProgress {
  state: "running" | "done" | "stopped";
  name: string;
  total: number;
  sent: number;
  finished: number;
  message: string | null;
}

export interface LimitsProgress {
  state: "running" | "done" | "stopped" | "failed";
  done: number;
  total: number;
  message: string | null;
}

export interface LockstepProgress {
  state: "loading" | "running" | "done" | "stopped" | "failed";
  run: string;
  stopping: boolean;
  /** The engine, 0 or 1, that is paused and has to be resumed first. */
  paused: 0 | 1 | null;
  /** Places that both engines have reached, of at most so many. */
  done: number;
  total: number;
  message: string | null;
}

/** What a side has at a place: a token, or the finish_reason after its last one. */
export type SideWire = [tokenId: number, logprob: number | null, alternatives: [number, number][]] | string;

export interface LockstepSide {
  name: string;
  kind: "this" | "copy" | "other";
  model: string;
}

/** What is new of a comparison: rows from `start` on, and with the first of them what they are rows of. */
export interface LockstepWire {
  run: string;
  start: number;
  rows: [prompt: number, first: SideWire, second: SideWire][];
  head?: { sides: [LockstepSide, LockstepSide]; max_tokens: number; prompts: [text: string, requestId: string][] };
}

export interface WhatIfProgress {
  state: "running" | "done";
  finished: number;
  total: number;
}

export type Arrivals = "poisson" | "bursts" | "closed_loop";

/** What traffic is made from; workbench/sim/recipe.py says what each name means. */
export interface Recipe extends Record<string, unknown> {
  arrivals: Arrivals;
}

export interface PreviewResult {
  name: string;
  num_prompt_tokens: number;
  num_output_tokens: number;
  requests: [time: number, after: number | null, prompt: number, output: number, priority: number][];
}

export interface ComparisonSide {
  name: string;
  simulated: boolean;
  messages: string[];
  /** How far the cost model is from the steps that it was fitted to, as shares. */
  fit: { steps: number; median: number; p95: number } | null;
}

/** Two runs of the same requests, first and second. Seconds; null where it did not happen. */
export interface ComparisonData {
  sides: [ComparisonSide, ComparisonSide];
  /** Those that differ. */
  settings: [name: string, first: string, second: string][];
  totals: [name: string, unit: string, first: number | null, second: number | null, lessIsBetter: boolean][];
  /** The greatest gain first. */
  requests: [
    id: string,
    ttft1: number | null,
    ttft2: number | null,
    e2e1: number,
    e2e2: number,
    why: string,
    preemptions1: number,
    preemptions2: number,
  ][];
  waterfalls: Record<string, [SegmentRow[], SegmentRow[]]>;
  num_gained: number;
  num_lost: number;
  num_same: number;
  /** Requests that ended in one of the runs only. */
  missing: string[];
}

export interface FramePayload {
  snapshot?: SnapshotWire;
  records: StepRecordWire[];
  texts: Record<string, string>;
  status: Status;
  lockstep?: LockstepWire;
}

export type BreakEvent = "preemption" | "allocation_failure" | "eviction" | "admission" | "first_token" | "finish";

/** One condition: an event (of one request, if named), few free blocks, or a step of many seconds. */
export type BreakCondition =
  { event: BreakEvent; request?: string } | { free_blocks_under: number } | { step_longer_than: number };

export interface CommandArgs {
  pause: Record<string, never>;
  resume: Record<string, never>;
  step: { n: number };
  set_speed: { steps_per_second: number | null };
  configure: Record<string, KnobValue>;
  predict: Record<string, KnobValue>;
  submit: { prompts: (string | { prompt_token_ids: number[] })[]; params: Record<string, unknown>; priority: number };
  cancel: { request_id: string };
  break_on: BreakCondition;
  clear_breakpoints: Record<string, never>;
  set_priority: { request_id: string; priority: number };
  move_to_front: { request_id: string };
  why: { request_id: string };
  traffic_preview: { recipe: Recipe };
  traffic_start: { recipe: Recipe };
  traffic_stop: Record<string, never>;
  what_if: { settings: Record<string, unknown>; recipe?: Recipe };
  what_if_stop: Record<string, never>;
  lockstep: { prompts: string[]; max_tokens: number; against: { engine: string } | { quantization: string | null } };
  lockstep_stop: Record<string, never>;
  measure_machine: Record<string, never>;
  measure_machine_stop: Record<string, never>;
  abort_all: Record<string, never>;
}

export type CommandName = keyof CommandArgs;

export interface SubmitResult {
  request_ids: string[];
}

/** A sentence, and the step at which to look. */
export type Cause = readonly [text: string, step: number | null];

export interface WhyResult {
  request_id: string;
  /** In order of time. */
  causes: Cause[];
  /** From arrival to the first token. */
  waterfall: SegmentRow[];
}

export interface CommandError {
  kind: string;
  message: string;
}

export type ToEngine =
  | { type: "subscribe" }
  | { type: "unsubscribe" }
  | { type: "ack"; seq: number }
  | { type: "command"; id: string; name: CommandName; args: CommandArgs[CommandName] };

export type FromEngine =
  /** `saved`: a trace without an engine, which only answers "why". */
  | { type: "hello"; protocol: number; engine: EngineInfo; saved?: boolean }
  | { type: "frame"; seq: number; keyframe: boolean }
  | { type: "reply"; id: string; ok: boolean; result?: unknown; error?: CommandError };

const utf8 = new TextDecoder();

/** The payload of a frame from its first buffer, whatever kind of view the transport hands over. */
export function decodePayload(buffer: ArrayBuffer | ArrayBufferView): FramePayload {
  return JSON.parse(utf8.decode(buffer)) as FramePayload;
}

/** True for a message of this protocol; other custom messages on the same channel are not ours to judge. */
export function isFromEngine(content: unknown): content is FromEngine {
  if (typeof content !== "object" || content === null) return false;
  const type = (content as { type?: unknown }).type;
  return type === "hello" || type === "frame" || type === "reply";
}
