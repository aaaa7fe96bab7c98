// The messages between the engine's process and a page. PROTOCOL.md tells the rules; this file holds the shapes.

import type { SnapshotWire, StepRecordWire } from "./generated.ts";
import type { SegmentRow } from "./waterfall.ts";

export const PROTOCOL_VERSION = 1;

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
  num_blocks: number;
  block_size: number;
  kv_bytes_per_block: number;
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
export type MemoryKind = "weights" | "kv_used" | "kv_cached" | "kv_free" | "workspace" | "other";

export interface MemoryRow {
  name: string;
  kind: MemoryKind;
  bytes: number;
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
  num_running: number;
  num_waiting: number;
  memory: MemoryRow[];
  /** Steps that the recorder has forgotten. */
  dropped_steps: number;
  /** What went wrong; while paused at a breakpoint: its name and what happened in the step. */
  message: string | null;
  /** Names of the breakpoints that are set. Traces saved before there were any lack it. */
  breakpoints?: string[];
}

export interface FramePayload {
  snapshot?: SnapshotWire;
  records: StepRecordWire[];
  texts: Record<string, string>;
  status: Status;
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
  configure: { max_num_seqs?: number; max_num_batched_tokens?: number };
  submit: { prompts: (string | { prompt_token_ids: number[] })[]; params: Record<string, unknown>; priority: number };
  cancel: { request_id: string };
  break_on: BreakCondition;
  clear_breakpoints: Record<string, never>;
  set_priority: { request_id: string; priority: number };
  move_to_front: { request_id: string };
  why: { request_id: string };
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
