// Made by generate_types.py from workbench/core; change the Python classes and run it again.

export const SCHEMA_VERSION = 3;

export type Action =
  | "prefill"
  | "decode"
  | "wait"
  | "preempt";

export type Reason =
  | "admitted"
  | "resumed"
  | "chunk"
  | "decode"
  | "token_budget"
  | "no_chunking"
  | "max_num_seqs"
  | "no_blocks"
  | "behind"
  | "sibling"
  | "after_preemption"
  | "policy"
  | "paused"
  | "reconfigured";

export type BlockEventKind =
  | "allocate"
  | "share"
  | "free"
  | "cache"
  | "evict"
  | "copy"
  | "move"
  | "resize";

export const WAITING_FOR: Partial<Record<Reason, string>> = {
  token_budget: "for the token budget",
  no_chunking: "for a step with room for the whole prompt",
  max_num_seqs: "for a place in the batch (max_num_seqs)",
  no_blocks: "for KV blocks",
  behind: "for its turn in the queue",
  sibling: "for the prompt that it shares",
  after_preemption: "because a step that preempts admits nobody",
  policy: "because the policy gave it no tokens",
  paused: "while the engine was paused",
  reconfigured: "while the KV pool was changed",
};

export const REASON_TEXTS: Record<string, string> = {
  preempt: "preempted: {other} needed {need:KV block}, {have} free",
  preempt_self: "preempted: it needed {need:KV block}, {have} free",
  decode: "decodes its next token",
  decode_many: "decodes {num_tokens:token}",
  admitted: "admitted: computes {part:prompt token}[; {num_cached} came from the prefix cache]",
  resumed: "resumed after preemption: recomputes {num_tokens:token}[; {num_cached} came from the prefix cache]",
  chunk: "next chunk: computes {num_tokens:prompt token}, {left} to go",
  chunk_last: "last chunk: computes {num_tokens:prompt token} and samples the first token",
  token_budget: "token budget used up: wants {need:token}, {have} left[; most went to {other}]",
  no_chunking: "its whole prompt of {need:token} must fit; {have} left in the budget (chunking is off)",
  max_num_seqs: "the batch is full: it would be sequence {need}, max_num_seqs is {have}",
  no_blocks: "waits for {need:KV block}, {have} free[; {other} holds most]",
  behind: "behind {other} in the queue",
  sibling: "waits for {other} to compute the prompt that they share",
  after_preemption: "nobody is admitted in a step that preempted {other}",
  policy: "the policy gave it none of the {have:token} left in the budget",
  paused: "the engine is paused",
  reconfigured: "waits while the KV pool changes: {other}",
  reconfigured_blocks: "preempted: {other} took {need:KV block} out of the pool, {have} free",
  reconfigured_pool: "preempted: {other} made its KV useless, so it is computed again",
};

export interface PoolShape {
  num_blocks: number;
  block_size: number;
  kv_cache_dtype: string;
  bytes_per_block: number;
}

export type PoolShapeRow = [
  num_blocks: number,
  block_size: number,
  kv_cache_dtype: string,
  bytes_per_block: number,
];

export function decodePoolShape(row: PoolShapeRow): PoolShape {
  return {
    num_blocks: row[0],
    block_size: row[1],
    kv_cache_dtype: row[2],
    bytes_per_block: row[3],
  };
}

export interface Decision {
  request_id: string;
  action: Action;
  reason: Reason;
  num_tokens: number;
  num_computed: number;
  num_cached: number;
  need: number;
  have: number;
  other: string;
}

export type DecisionRow = [
  request_id: string,
  action: Action,
  reason: Reason,
  num_tokens: number,
  num_computed: number,
  num_cached: number,
  need: number,
  have: number,
  other: string,
];

export function decodeDecision(row: DecisionRow): Decision {
  return {
    request_id: row[0],
    action: row[1],
    reason: row[2],
    num_tokens: row[3],
    num_computed: row[4],
    num_cached: row[5],
    need: row[6],
    have: row[7],
    other: row[8],
  };
}

export interface BlockEvent {
  kind: BlockEventKind;
  block: number;
  request_id: string;
  other: string;
}

export type BlockEventRow = [
  kind: BlockEventKind,
  block: number,
  request_id: string,
  other: string,
];

export function decodeBlockEvent(row: BlockEventRow): BlockEvent {
  return {
    kind: row[0],
    block: row[1],
    request_id: row[2],
    other: row[3],
  };
}

export interface Arrival {
  request_id: string;
  time: number;
  prompt_token_ids: number[];
  max_tokens: number;
  priority: number;
  parent_id: string;
  label: string;
}

export type ArrivalRow = [
  request_id: string,
  time: number,
  prompt_token_ids: number[],
  max_tokens: number,
  priority: number,
  parent_id: string,
  label: string,
];

export function decodeArrival(row: ArrivalRow): Arrival {
  return {
    request_id: row[0],
    time: row[1],
    prompt_token_ids: row[2],
    max_tokens: row[3],
    priority: row[4],
    parent_id: row[5],
    label: row[6],
  };
}

export interface Sampled {
  request_id: string;
  token_id: number;
  logprob: number | null;
  alternatives: [number, number][];
  position: number;
}

export type SampledRow = [
  request_id: string,
  token_id: number,
  logprob: number | null,
  alternatives: [number, number][],
  position: number,
];

export function decodeSampled(row: SampledRow): Sampled {
  return {
    request_id: row[0],
    token_id: row[1],
    logprob: row[2],
    alternatives: row[3],
    position: row[4],
  };
}

export interface Finished {
  request_id: string;
  finish_reason: string;
  detail: string;
}

export type FinishedRow = [
  request_id: string,
  finish_reason: string,
  detail: string,
];

export function decodeFinished(row: FinishedRow): Finished {
  return {
    request_id: row[0],
    finish_reason: row[1],
    detail: row[2],
  };
}

export interface SettingChange {
  name: string;
  value: string;
  request_id: string;
}

export type SettingChangeRow = [
  name: string,
  value: string,
  request_id: string,
];

export function decodeSettingChange(row: SettingChangeRow): SettingChange {
  return {
    name: row[0],
    value: row[1],
    request_id: row[2],
  };
}

export interface StepTimes {
  schedule: number;
  prepare: number;
  forward: number;
  sample: number;
  update: number;
}

export type StepTimesRow = [
  schedule: number,
  prepare: number,
  forward: number,
  sample: number,
  update: number,
];

export function decodeStepTimes(row: StepTimesRow): StepTimes {
  return {
    schedule: row[0],
    prepare: row[1],
    forward: row[2],
    sample: row[3],
    update: row[4],
  };
}

export interface RequestState {
  request_id: string;
  parent_id: string;
  label: string;
  priority: number;
  arrival_time: number;
  max_tokens: number;
  prompt_token_ids: number[];
  output_token_ids: number[];
  num_computed_tokens: number;
  num_preemptions: number;
}

export type RequestStateRow = [
  request_id: string,
  parent_id: string,
  label: string,
  priority: number,
  arrival_time: number,
  max_tokens: number,
  prompt_token_ids: number[],
  output_token_ids: number[],
  num_computed_tokens: number,
  num_preemptions: number,
];

export function decodeRequestState(row: RequestStateRow): RequestState {
  return {
    request_id: row[0],
    parent_id: row[1],
    label: row[2],
    priority: row[3],
    arrival_time: row[4],
    max_tokens: row[5],
    prompt_token_ids: row[6],
    output_token_ids: row[7],
    num_computed_tokens: row[8],
    num_preemptions: row[9],
  };
}

export type DecisionColumns = [ids: string[] | null, num_computed: number[], noted: [number, DecisionRow][] | null];

export type SampledColumns = [ids: string[] | null, token_ids: number[], positions: number[], logprobs: [place: number, logprob: number | null, alternatives: [number, number][]][]];

export interface StepRecordWire {
  step: number;
  time: number;
  times: StepTimesRow;
  arrivals: ArrivalRow[];
  decisions: DecisionColumns;
  block_events: BlockEventRow[];
  sampled: SampledColumns;
  finished: FinishedRow[];
  changes: SettingChangeRow[];
  num_scheduled_tokens: number;
  token_budget: number;
  max_num_seqs: number;
  num_free_blocks: number;
  pool: PoolShapeRow;
}

export interface StepRecord {
  step: number;
  time: number;
  times: StepTimes;
  arrivals: Arrival[];
  decisions: Decision[];
  block_events: BlockEvent[];
  sampled: Sampled[];
  finished: Finished[];
  changes: SettingChange[];
  num_scheduled_tokens: number;
  token_budget: number;
  max_num_seqs: number;
  num_free_blocks: number;
  pool: PoolShape;
}

export function decodeStepRecord(wire: StepRecordWire, decisions: Decision[], sampled: Sampled[]): StepRecord {
  return {
    step: wire.step,
    time: wire.time,
    times: decodeStepTimes(wire.times),
    arrivals: wire.arrivals.map(decodeArrival),
    decisions: decisions,
    block_events: wire.block_events.map(decodeBlockEvent),
    sampled: sampled,
    finished: wire.finished.map(decodeFinished),
    changes: wire.changes.map(decodeSettingChange),
    num_scheduled_tokens: wire.num_scheduled_tokens,
    token_budget: wire.token_budget,
    max_num_seqs: wire.max_num_seqs,
    num_free_blocks: wire.num_free_blocks,
    pool: decodePoolShape(wire.pool),
  };
}

export interface SnapshotWire {
  step: number;
  pool: PoolShapeRow;
  block_tables: Record<string, number[]>;
  ref_counts: number[];
  block_hashes: string[];
  free_blocks: number[];
  waiting: string[];
  running: string[];
  requests: Record<string, RequestStateRow>;
}

export interface Snapshot {
  step: number;
  pool: PoolShape;
  block_tables: Record<string, number[]>;
  ref_counts: number[];
  block_hashes: string[];
  free_blocks: number[];
  waiting: string[];
  running: string[];
  requests: Record<string, RequestState>;
}

export function decodeSnapshot(wire: SnapshotWire): Snapshot {
  return {
    step: wire.step,
    pool: decodePoolShape(wire.pool),
    block_tables: wire.block_tables,
    ref_counts: wire.ref_counts,
    block_hashes: wire.block_hashes,
    free_blocks: wire.free_blocks,
    waiting: wire.waiting,
    running: wire.running,
    requests: Object.fromEntries(Object.entries(wire.requests).map(([key, row]) => [key, decodeRequestState(row)])),
  };
}
