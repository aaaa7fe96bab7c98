// The trace as this page has it: a reducer over frames, and questions about any step that is still kept.

import { decodeSnapshot, decodeStepRecord, type Snapshot, type StepRecord } from "./generated.ts";
import type { EngineInfo, FramePayload, Status } from "./protocol.ts";
import { EngineState } from "./replay.ts";
import { applyToRequests, endUnseen, fillTokens, infoFromSnapshot } from "./request_log.ts";
import { Series } from "./series.ts";
import { StallFinder } from "./stalls.ts";
import { summarise } from "./step_summary.ts";
import type { Cursor, RequestInfo, Step, TraceEvent } from "./trace_types.ts";

/** Steps kept at most: about a minute of the bundled model at full speed. */
const MAX_STEPS = 20_000;
/** Ended requests kept at most, so that a long run does not fill the page's memory. */
const MAX_REQUESTS = 2_000;
const KEYFRAME_EVERY = 256;

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
  private readonly maxSteps: number;

  constructor(maxSteps = MAX_STEPS) {
    this.maxSteps = maxSteps;
  }

  applyFrame(payload: FramePayload): void {
    this.revision += 1;
    for (const [id, text] of Object.entries(payload.texts)) this.texts.set(Number(id), text);
    if (payload.snapshot !== undefined) this.join(decodeSnapshot(payload.snapshot), payload);
    for (const wire of payload.records) {
      if (this.head !== null && wire.step > this.head.step) this.append(decodeStepRecord(wire));
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
    this.keyframes.push(this.head.clone());
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
    // A keyframe of a large pool is a large copy, so those are made less often.
    const every = KEYFRAME_EVERY * Math.ceil(head.numBlocks / 4096);
    if (record.step - (this.keyframes.at(-1)?.step ?? 0) >= every) this.keyframes.push(head.clone());
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

  /** Forget the oldest steps, back to a keyframe, so that every kept step can be rebuilt. */
  private trim(): void {
    if (this.steps.length <= this.maxSteps) return;
    const oldest = this.steps[this.steps.length - this.maxSteps]!.record.step;
    const key = this.keyframes.findLastIndex((k) => k.step < oldest);
    if (key <= 0) return;
    this.keyframes.splice(0, key);
    const base = this.keyframes[0]!.step;
    this.steps.splice(0, this.indexOf(base) + 1);
    this.events = this.events.filter((e) => e.step > base);
    if (this.sought !== null && this.sought.step < base) this.sought = null;
    const excess = this.requests.size - MAX_REQUESTS;
    if (excess <= 0) return;
    let dropped = 0;
    for (const [id, request] of this.requests) {
      if (dropped >= excess) break;
      if (request.ending === null || request.ending.step > base) continue;
      this.requests.delete(id);
      dropped += 1;
    }
  }
}
