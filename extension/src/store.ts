// The trace as this page has it: a reducer over frames, and questions about any step that is still kept.

import { decodeSnapshot, type Snapshot, type StepRecord } from "./generated.ts";
import type { EngineInfo, FramePayload, Status } from "./protocol.ts";
import { RecordReader } from "./record_reader.ts";
import { EngineState } from "./replay.ts";
import { applyToRequests, endUnseen, fillTokens, infoFromSnapshot } from "./request_log.ts";
import { Series } from "./series.ts";
import { StallFinder } from "./stalls.ts";
import { summarise } from "./step_summary.ts";
import type { Cursor, RequestInfo, Step, TraceEvent } from "./trace_types.ts";

/** What a page keeps at most, so that a long run does not fill its memory. Requests that are alive are always kept. */
export interface Limits {
  steps: number;
  /** Decisions, sampled tokens and block events of the kept steps, 100 bytes each or so, and prompts, 10 tokens a row. */
  rows: number;
  requests: number;
  /** Prompt and output tokens of the kept requests. */
  tokens: number;
}

const LIMITS: Limits = { steps: 20_000, rows: 1_000_000, requests: 2_000, tokens: 1_000_000 };
const KEYFRAME_EVERY = 256;
/** Steps are dropped from one keyframe to the next, so there is one at least as often as this share of a limit. */
const KEYFRAME_SHARE = 1 / 4;

export class TraceStore {
  info: EngineInfo | null = null;
  status: Status | null = null;
  head: EngineState | null = null;
  /** Grows with every change of the trace, so that a view can tell whether it has to draw again. */
  revision = 0;
  /** Grows whenever the trace was taken up at a snapshot: what was known of single steps before may have a gap. */
  joins = 0;
  readonly texts = new Map<number, string>();
  readonly requests = new Map<string, RequestInfo>();
  readonly ttft = new Series();
  readonly itl = new Series();
  events: TraceEvent[] = [];
  steps: Step[] = [];

  /** Why the engine took a policy off, until another one is put in force. */
  policyNotice: string | null = null;

  private readonly stalls = new StallFinder();
  private keyframes: EngineState[] = [];
  private sought: EngineState | null = null;
  readonly limits: Limits;
  /** Rows of all kept steps, and of those since the last keyframe. */
  private rows = 0;
  private rowsSinceKeyframe = 0;

  constructor(limits: Partial<Limits> = {}) {
    this.limits = { ...LIMITS, ...limits };
  }

  applyFrame(payload: FramePayload): void {
    this.revision += 1;
    for (const [id, text] of Object.entries(payload.texts)) this.texts.set(Number(id), text);
    if (payload.snapshot !== undefined) this.join(decodeSnapshot(payload.snapshot), payload);
    const reader = new RecordReader();
    for (const wire of payload.records) {
      const record = reader.read(wire);
      if (this.head !== null && record.step > this.head.step) this.append(record);
    }
    this.status = payload.status;
    this.trim();
  }

  get firstStep(): number | null {
    return this.steps[0]?.record.step ?? null;
  }

  get lastStep(): number | null {
    return this.steps.at(-1)?.record.step ?? null;
  }

  /** Index in `steps` of the last step that is not after `step`; -1 if all are. */
  indexOf(step: number): number {
    let low = 0;
    let high = this.steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.steps[middle]!.record.step <= step) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The step that the cursor stands on, if it is kept. */
  stepAt(cursor: Cursor): Step | null {
    if (cursor === "live") return this.steps.at(-1) ?? null;
    const step = this.steps[this.indexOf(cursor)];
    return step?.record.step === cursor ? step : null;
  }

  /** The engine's state after a step. Valid until the next call or frame: later ones may change it in place. */
  stateAt(cursor: Cursor): EngineState | null {
    if (this.head === null || cursor === "live" || cursor >= this.head.step) return this.head;
    const key = this.keyframes.findLast((k) => k.step <= cursor);
    if (key === undefined) return null;
    if (this.sought === null || this.sought.step > cursor || this.sought.step < key.step) this.sought = key.clone();
    for (let i = this.indexOf(this.sought.step) + 1; i < this.steps.length; i++) {
      const { record } = this.steps[i]!;
      if (record.step > cursor) break;
      this.sought.apply(record);
    }
    return this.sought;
  }

  /** Engine time that the cursor stands on. */
  timeAt(cursor: Cursor): number {
    if (cursor === "live") return Math.max(this.status?.time ?? 0, this.steps.at(-1)?.end ?? 0);
    return this.steps[this.indexOf(cursor)]?.end ?? 0;
  }

  /** Tokens sampled per second over the last `window` seconds before the cursor. */
  tokensPerSecond(cursor: Cursor, window = 2): number {
    const now = this.timeAt(cursor);
    let count = 0;
    let start = now;
    for (let i = cursor === "live" ? this.steps.length - 1 : this.indexOf(cursor); i >= 0; i--) {
      const step = this.steps[i]!;
      if (step.end < now - window) break;
      count += step.numSampled;
      start = step.record.time;
    }
    return count === 0 ? 0 : count / Math.max(Math.min(window, now - start), 1e-3);
  }

  /** The nearest event, of one kind if it is given, before (-1) or after (+1) a step. */
  nextEvent(from: number, direction: 1 | -1, kind: TraceEvent["kind"] | null = null): TraceEvent | null {
    const fits = (e: TraceEvent): boolean => kind === null || e.kind === kind;
    const found =
      direction > 0
        ? this.events.find((e) => e.step > from && fits(e))
        : this.events.findLast((e) => e.step < from && fits(e));
    return found ?? null;
  }

  /** The text of a token, or its id in angle brackets if this page was never told. */
  text(tokenId: number): string {
    return this.texts.get(tokenId) ?? `⟨${tokenId}⟩`;
  }

  /** Take up a snapshot: at the start, after a gap, or one that overlaps with what is here and then adds nothing. */
  private join(snapshot: Snapshot, payload: FramePayload): void {
    // A long backlog comes in several frames, so this one may end before what is here: only an engine that has itself
    // made fewer steps is another run under the same id.
    const newest = Math.max(payload.status.step, payload.records.at(-1)?.step ?? snapshot.step);
    if (this.head !== null && newest < this.head.step) this.forget();
    if (this.head !== null && snapshot.step <= this.head.step) return;
    this.joins += 1;
    this.head = EngineState.fromSnapshot(snapshot);
    this.keep(this.head);
    for (const request of Object.values(snapshot.requests)) {
      const known = this.requests.get(request.request_id);
      if (known !== undefined) fillTokens(known, request);
      else this.requests.set(request.request_id, infoFromSnapshot(request, this.requests.size));
    }
    endUnseen(this.requests.values(), this.head, payload.status.time);
  }

  private forget(): void {
    this.head = null;
    this.sought = null;
    this.keyframes = [];
    this.steps = [];
    this.rows = 0;
    this.events = [];
    this.requests.clear();
    this.ttft.clear();
    this.itl.clear();
  }

  private append(record: StepRecord): void {
    const head = this.head!;
    head.apply(record);
    const step = summarise(record, head);
    this.steps.push(step);
    applyToRequests(this, step);
    this.noteEvents(record, this.stalls.look(step));
    this.rows += rowsOf(record);
    this.rowsSinceKeyframe += rowsOf(record);
    // A keyframe of a large pool is a large copy, so those are made less often.
    const every = Math.min(KEYFRAME_EVERY * Math.ceil(head.numBlocks / 4096), this.limits.steps * KEYFRAME_SHARE);
    const stepsSince = record.step - (this.keyframes.at(-1)?.step ?? 0);
    if (stepsSince >= every || this.rowsSinceKeyframe >= this.limits.rows * KEYFRAME_SHARE) this.keep(head);
  }

  private keep(state: EngineState): void {
    this.keyframes.push(state.clone());
    this.rowsSinceKeyframe = 0;
  }

  private noteEvents(record: StepRecord, stalled: boolean): void {
    const note = (kind: TraceEvent["kind"]): void => void this.events.push({ step: record.step, kind });
    if (record.changes.length > 0) note("changed");
    if (record.arrivals.length > 0) note("arrival");
    if (record.decisions.some((d) => d.action === "preempt")) note("preempted");
    if (record.decisions.some((d) => d.reason === "admitted" || d.reason === "resumed")) note("admitted");
    if (record.block_events.some((e) => e.kind === "evict")) note("evicted");
    if (record.block_events.some((e) => e.kind === "copy")) note("copied");
    if (record.finished.length > 0) note("finished");
    if (stalled) note("stalled");
    for (const change of record.changes) {
      if (change.name === "scheduling_policy")
        this.policyNotice = change.value.includes(" was taken off") ? change.value : null;
    }
  }

  /** Forget the oldest steps, back to a keyframe, so that every kept step can be rebuilt; then requests of that time. */
  private trim(): void {
    const { limits, steps } = this;
    const excess = steps.length - limits.steps;
    let first = 0;
    for (let { rows } = this; first < steps.length - 1 && (first < excess || rows > limits.rows); first++) {
      rows -= rowsOf(steps[first]!.record);
    }
    if (first === 0) return;
    const oldest = steps[first]!.record.step;
    const key = this.keyframes.findLastIndex((k) => k.step < oldest);
    if (key <= 0) return;
    this.keyframes.splice(0, key);
    const base = this.keyframes[0]!.step;
    for (const { record } of steps.splice(0, this.indexOf(base) + 1)) this.rows -= rowsOf(record);
    this.events = this.events.filter((e) => e.step > base);
    if (this.sought !== null && this.sought.step < base) this.sought = null;
    this.trimRequests(base);
  }

  private trimRequests(base: number): void {
    let tokens = 0;
    for (const request of this.requests.values()) tokens += tokensOf(request);
    for (const [id, request] of this.requests) {
      if (this.requests.size <= this.limits.requests && tokens <= this.limits.tokens) return;
      if (request.ending === null || request.ending.step > base) continue;
      this.requests.delete(id);
      tokens -= tokensOf(request);
    }
  }
}

function rowsOf(record: StepRecord): number {
  let prompts = 0;
  for (const arrival of record.arrivals) prompts += arrival.prompt_token_ids.length;
  return record.decisions.length + record.sampled.length + record.block_events.length + Math.ceil(prompts / 10);
}

function tokensOf(request: RequestInfo): number {
  return request.promptTokenIds.length + request.tokens.length;
}
