// One engine as a page sees it: its trace, the shared selection and time cursor, and the way to command it.

import type { Change, CommandArgs, CommandName, ComparisonData, PreviewResult } from "./protocol.ts";
import { PROTOCOL_VERSION, type CommandError, type SubmitResult, type WhyResult } from "./protocol.ts";
import type { Source, SourceHandlers } from "./source.ts";
import { TraceStore } from "./store.ts";
import type { Cursor, TraceEvent } from "./trace_types.ts";
import { Playback } from "./playback.ts";
import { Lockstep } from "./lockstep.ts";
import { WhatIf } from "./what_if.ts";

export interface Selection {
  request: string | null;
  block: number | null;
  /** Index of an output token of `request`. */
  token: number | null;
}

export type Connection = "connecting" | "live" | "lost";

interface CommandResults {
  configure: Change;
  predict: Change;
  submit: SubmitResult;
  why: WhyResult;
  traffic_preview: PreviewResult;
  what_if: ComparisonData;
  lockstep: { run: string };
}

type ResultOf<N extends CommandName> = N extends keyof CommandResults ? CommandResults[N] : unknown;

interface Pending {
  readonly source: Source;
  resolve(value: unknown): void;
  reject(error: Error): void;
  readonly timer: ReturnType<typeof setTimeout>;
  readonly name: CommandName;
  /** From when on the lack of an answer is worth telling. */
  readonly slowAt: number;
}

/** A plain picture of a state for tests and tools. */
export interface StateView {
  step: number;
  block_tables: Record<string, number[]>;
  ref_counts: number[];
  block_hashes: string[];
  free_blocks: number[];
  waiting: string[];
  running: string[];
}

export class CommandFailure extends Error {
  readonly kind: string;

  constructor(error: CommandError) {
    super(error.message);
    this.kind = error.kind;
  }
}

/** A live engine sends a status at least once a second. After this silence the stream is asked for again … */
const SILENCE_MS = 6_000;
/** … and after this one the engine is taken for lost. */
const LOST_AFTER_MS = 15_000;

/** How long a command may stay unanswered. A step(n) in slow motion is answered when accepted, not when done. */
const REPLY_TIMEOUT_MS = 15_000;
/** After this long without an answer the page tells of it. */
const SLOW_REPLY_MS = 2_000;

export class Session {
  readonly engineId: string;
  readonly store = new TraceStore();
  connection: Connection = "connecting";
  cursor: Cursor = "live";
  selection: Selection = { request: null, block: null, token: null };
  readonly playback = new Playback(this);
  readonly whatIf = new WhatIf(this);
  readonly lockstep = new Lockstep();
  /** What the what-if form asks for, as other views may ask for it too. */
  whatIfSettings: Record<string, unknown> = {};
  /** The kind of moment that previous and next jump to; null for any. */
  eventKind: TraceEvent["kind"] | null = null;
  /** Request under the pointer in any view. */
  hovered: string | null = null;
  /** Why frames cannot be read, if they cannot. */
  problem: string | null = null;

  private readonly sources: Source[] = [];
  private readonly lost = new Set<Source>();
  private readonly stops = new Map<Source, () => void>();
  private readonly listeners = new Set<() => void>();
  private readonly pending = new Map<string, Pending>();
  private readonly idPrefix = Math.random().toString(36).slice(2, 8);
  private nextId = 1;
  private saved = false;
  private heardAt = 0;
  private askedAt = 0;
  private watch: ReturnType<typeof setInterval> | undefined;

  constructor(engineId: string) {
    this.engineId = engineId;
  }

  /** False for a saved trace: there is no engine to pause or to send prompts to. */
  get interactive(): boolean {
    return !this.saved && (this.sources[0]?.interactive ?? false);
  }

  /** True if Python is there to answer, be it about a saved trace. */
  get kernel(): boolean {
    return (this.sources[0]?.interactive ?? false) && this.connection === "live";
  }

  /** True if there is somebody to answer a command. */
  get commandable(): boolean {
    const state = this.store.status?.state;
    return this.interactive && this.connection === "live" && state !== "closed" && state !== "error";
  }

  /** What to tell of a command that has no answer although the engine is heard; "" where all is well. */
  get unanswered(): string {
    for (const { name, slowAt } of this.pending.values()) {
      if (this.heardAt < slowAt) continue;
      return `No answer to “${name}” yet: it comes after the running step, in some notebooks only after the running cell.`;
    }
    return "";
  }

  /** Add a way to the engine. The first one carries the stream; when it goes, the next takes over. */
  attach(source: Source): () => void {
    this.sources.push(source);
    this.stops.set(source, source.listen(this.handlers(source)));
    if (this.sources[0] === source) this.begin(source);
    return () => this.detach(source);
  }

  get unused(): boolean {
    return this.sources.length === 0;
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  command<N extends CommandName>(name: N, args: CommandArgs[N], within = REPLY_TIMEOUT_MS): Promise<ResultOf<N>> {
    const source = this.sources[0];
    if (source === undefined || this.connection !== "live") {
      const message = "The kernel does not answer. Run the cell that makes the engine again.";
      return Promise.reject(new CommandFailure({ kind: "Disconnected", message }));
    }
    const id = `${this.idPrefix}-${this.nextId++}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        const message =
          `No answer to "${name}" within ${within / 1000} s: the kernel is gone, or runs a cell and cannot be reached ` +
          "from here until it ends.";
        reject(new CommandFailure({ kind: "Timeout", message }));
      }, within);
      // What may take long by nature has a longer time, and tells of its progress itself.
      const slowAt = performance.now() + (within > REPLY_TIMEOUT_MS ? within : SLOW_REPLY_MS);
      this.pending.set(id, { source, resolve: resolve as (value: unknown) => void, reject, timer, name, slowAt });
      source.command(id, name, args);
    });
  }

  setCursor(cursor: Cursor): void {
    const { firstStep, lastStep } = this.store;
    let next = cursor;
    if (next !== "live" && (firstStep === null || lastStep === null)) next = "live";
    if (next !== "live") next = Math.max(firstStep!, Math.min(lastStep!, Math.round(next)));
    if (next === this.cursor) return;
    this.cursor = next;
    this.changed();
  }

  /** One step back or forward in what is kept; forward from the newest step is back to live. */
  moveCursor(by: number): void {
    const last = this.store.lastStep;
    if (last === null) return;
    const from = this.cursor === "live" ? last : this.cursor;
    this.setCursor(from + by > last ? "live" : from + by);
  }

  /** Go to the nearest moment of the chosen kind; false if there is none. */
  jump(by: 1 | -1): boolean {
    const from = this.cursor === "live" ? (this.store.lastStep ?? 0) + 1 : this.cursor;
    const event = this.store.nextEvent(from, by, this.eventKind);
    if (event !== null) this.setCursor(event.step);
    return event !== null;
  }

  select(selection: Partial<Selection>): void {
    const next = { request: null, block: null, token: null, ...selection };
    const now = this.selection;
    if (next.request === now.request && next.block === now.block && next.token === now.token) return;
    this.selection = next;
    this.changed();
  }

  /** Have every view draw again: something that a view shows has changed beside the trace. */
  touch(): void {
    this.changed();
  }

  hover(request: string | null): void {
    if (request === this.hovered) return;
    this.hovered = request;
    this.changed();
  }

  /** The state after a step as plain values; null if that step is not kept. */
  stateAt(cursor: Cursor): StateView | null {
    const state = this.store.stateAt(cursor);
    if (state === null) return null;
    return {
      step: state.step,
      block_tables: Object.fromEntries(Array.from(state.blockTables, ([id, table]) => [id, [...table]])),
      ref_counts: [...state.refCounts],
      block_hashes: [...state.hashes],
      free_blocks: [...state.free],
      waiting: [...state.waiting],
      running: [...state.running],
    };
  }

  private begin(source: Source): void {
    clearInterval(this.watch);
    this.heardAt = this.askedAt = performance.now();
    if (source.interactive) this.watch = setInterval(() => this.checkSilence(source), 2_000);
    source.subscribe();
  }

  /** A tab that slept, or a kernel that gave up on this page, is brought back by asking for the stream again. */
  private checkSilence(source: Source): void {
    const now = performance.now();
    if (this.store.status?.state === "closed" || now - this.heardAt < SILENCE_MS) return;
    if (now - this.askedAt >= SILENCE_MS) {
      this.askedAt = now;
      source.subscribe();
    }
    if (this.connection === "live" && now - this.heardAt >= LOST_AFTER_MS) {
      this.connection = "lost";
      this.changed();
    }
  }

  private handlers(source: Source): SourceHandlers {
    const carries = (): boolean => this.sources[0] === source;
    return {
      hello: (engine, protocol, saved = false) => {
        if (!carries()) return;
        this.store.info = engine;
        this.saved = saved;
        this.heardAt = performance.now();
        this.connection = "live";
        this.problem =
          protocol === PROTOCOL_VERSION
            ? null
            : `The kernel speaks protocol ${protocol}, this page ${PROTOCOL_VERSION}: reload the page.`;
        this.changed();
      },
      frame: (payload) => {
        if (!carries()) return;
        this.heardAt = performance.now();
        this.connection = "live";
        try {
          this.store.applyFrame(payload);
          if (payload.lockstep !== undefined) this.lockstep.apply(payload.lockstep);
        } catch (error) {
          this.problem = `The trace could not be read: ${error instanceof Error ? error.message : String(error)}`;
        }
        const { firstStep } = this.store;
        if (this.cursor !== "live" && firstStep !== null && this.cursor < firstStep) this.cursor = firstStep;
        this.changed();
      },
      reply: (reply) => {
        const waiting = this.pending.get(reply.id);
        if (waiting === undefined) return;
        this.pending.delete(reply.id);
        clearTimeout(waiting.timer);
        if (reply.ok) waiting.resolve(reply.result);
        else waiting.reject(new CommandFailure(reply.error ?? { kind: "Error", message: "The command failed." }));
      },
      lost: () => {
        this.lost.add(source);
        if (!carries()) return;
        clearInterval(this.watch);
        const next = this.sources.find((s) => !this.lost.has(s));
        if (next === undefined) {
          this.connection = "lost";
          this.changed();
          return;
        }
        // One view's channel was closed; another view of the same engine still has its own.
        this.sources.splice(this.sources.indexOf(next), 1);
        this.sources.unshift(next);
        this.begin(next);
      },
    };
  }

  private detach(source: Source): void {
    const at = this.sources.indexOf(source);
    if (at < 0) return;
    if (at === 0) source.unsubscribe();
    this.sources.splice(at, 1);
    this.lost.delete(source);
    this.stops.get(source)?.();
    this.stops.delete(source);
    for (const [id, waiting] of this.pending) {
      if (waiting.source !== source) continue;
      clearTimeout(waiting.timer);
      this.pending.delete(id);
      waiting.reject(new CommandFailure({ kind: "Detached", message: "The view that sent this was closed." }));
    }
    if (at !== 0) return;
    clearInterval(this.watch);
    const next = this.sources[0];
    if (next !== undefined) this.begin(next);
  }

  private changed(): void {
    for (const listener of [...this.listeners]) listener();
  }
}
