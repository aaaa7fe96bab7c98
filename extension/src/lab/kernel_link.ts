// The extension's line to one kernel: one comm, the kernel's list of engines, and every view's messages fanned out.

import type { Kernel, KernelMessage } from "@jupyterlab/services";

import { type CommandArgs, type CommandName, PROTOCOL_VERSION, type ToEngine } from "../protocol.ts";
import { holdSession } from "../registry.ts";
import type { Session } from "../session.ts";
import { type WidgetModel, WidgetSource } from "../widget_source.ts";
import { type EngineSummary, type FromKernel, TARGET, type ToKernel } from "./lab_protocol.ts";

export type KernelConnection = Pick<
  Kernel.IKernelConnection,
  "id" | "createComm" | "registerCommTarget" | "removeCommTarget" | "requestCommInfo" | "supportsSubshells"
>;

/** Subshells of a kernel, asked for over its control channel, which answers while a cell is running. */
export interface Subshells {
  create(): Promise<string>;
  remove(id: string): Promise<unknown>;
}

/** Where a page notes which kernels have answered, so that after a reload it need not ask a busy one. */
export interface KernelMemory {
  has(kernelId: string): boolean;
  hasSubshells(kernelId: string): boolean;
  add(kernelId: string, subshells: boolean): void;
}

/** A kernel without subshells never says that one has started. */
const SUBSHELL_MS = 2_000;
const REPLY_MS = 15_000;
const WATCH_AGAIN_MS = 20_000;

type MessageListener = (content: unknown, buffers: readonly (ArrayBuffer | ArrayBufferView)[]) => void;

interface Listener {
  readonly engineId: string;
  readonly event: string;
  readonly callback: MessageListener;
}

interface Share {
  readonly session: Session;
  count: number;
  detach: () => void;
  release: () => void;
}

export class KernelLink {
  engines: readonly EngineSummary[] = [];
  connected = false;
  /** Why the kernel cannot be understood, if it cannot. */
  problem: string | null = null;
  private readonly kernel: KernelConnection;
  private readonly memory: KernelMemory;
  private readonly subshells: Subshells;
  private readonly changed: () => void;
  private comm: Kernel.IComm | null = null;
  private attempt = 0;
  private disposed = false;
  private listeners: Listener[] = [];
  private readonly shares = new Map<string, Share>();
  private watchSeconds: number | null = null;
  private watchTimer: ReturnType<typeof setInterval> | undefined;
  private nextId = 1;

  constructor(kernel: KernelConnection, memory: KernelMemory, subshells: Subshells, changed: () => void) {
    this.kernel = kernel;
    this.memory = memory;
    this.subshells = subshells;
    this.changed = changed;
    kernel.registerCommTarget(TARGET, this.onAnnounced);
    void this.probe();
  }

  /** True while the kernel was asked and has not answered, as when a cell was running before this page was opened. */
  get awaited(): boolean {
    return this.comm !== null && !this.connected;
  }

  /** True for a kernel without subshells: what is asked of it waits for the running cell, while updates go on. */
  get hearsBetweenCells(): boolean {
    return this.connected && !this.kernel.supportsSubshells && !this.memory.hasSubshells(this.kernel.id);
  }

  get kernelId(): string {
    return this.kernel.id;
  }

  /** Connect if the workbench is there. Asking the kernel first spares one that never heard of it an error in its log. */
  async probe(): Promise<void> {
    if (this.memory.has(this.kernel.id)) return this.connect();
    const attempt = this.attempt;
    try {
      const { content } = await this.kernel.requestCommInfo({ target_name: TARGET });
      const known = content.status === "ok" && Object.keys(content.comms).length > 0;
      if (known && attempt === this.attempt && this.comm === null) await this.connect();
    } catch {
      // The kernel ended or restarted meanwhile; it will announce itself.
    }
  }

  /** Forget the connection: the kernel has restarted or ended. */
  drop(): void {
    this.attempt += 1;
    this.comm = null;
    this.connected = false;
    this.engines = [];
    for (const { event, callback } of [...this.listeners]) if (event === "comm:close") callback(null, []);
    this.changed();
  }

  /** Say goodbye, as the page goes or the notebook is closed. */
  dispose(): void {
    this.disposed = true;
    const { comm } = this;
    clearInterval(this.watchTimer);
    this.kernel.removeCommTarget(TARGET, this.onAnnounced);
    try {
      if (comm !== null && !comm.isDisposed) {
        comm.onClose = () => undefined;
        comm.close();
      }
    } catch {
      // The kernel's connection has gone before.
    }
    this.drop();
  }

  /** Have the list of engines kept up to date; null: only told of new engines. */
  watch(seconds: number | null): void {
    if (seconds === this.watchSeconds) return;
    this.watchSeconds = seconds;
    clearInterval(this.watchTimer);
    if (seconds !== null) this.watchTimer = setInterval(() => this.sendWatch(), WATCH_AGAIN_MS);
    this.sendWatch();
  }

  /** Have those of a notebook's pictures published again, by id, that are older than the kernel's. */
  askStills(editions: Record<string, string>): void {
    this.send({ type: "stills", editions });
  }

  /** The engine's session on this page with this link attached, shared by all panels; call `release` when out of sight. */
  share(engineId: string): { session: Session; release: () => void } {
    let share = this.shares.get(engineId);
    if (share === undefined) {
      const { session, release } = holdSession(engineId);
      share = { session, count: 0, detach: session.attach(new WidgetSource(this.model(engineId))), release };
      this.shares.set(engineId, share);
    }
    const held = share;
    held.count += 1;
    let released = false;
    return {
      session: held.session,
      release: () => {
        if (released) return;
        released = true;
        held.count -= 1;
        if (held.count > 0) return;
        this.shares.delete(engineId);
        held.detach();
        held.release();
      },
    };
  }

  /** Send a command without a view; resolves when the engine has answered. */
  command<N extends CommandName>(engineId: string, name: N, args: CommandArgs[N]): Promise<unknown> {
    const id = `lab-${this.nextId++}`;
    return new Promise((resolve, reject) => {
      const listener: Listener = {
        engineId,
        event: "msg:custom",
        callback: (content) => {
          const reply = content as { type: string; id?: string; ok?: boolean; result?: unknown; error?: Error };
          if (reply.type !== "reply" || reply.id !== id) return;
          end();
          if (reply.ok === true) resolve(reply.result);
          else reject(new Error(reply.error?.message ?? `"${name}" failed`));
        },
      };
      const end = (): void => {
        clearTimeout(timer);
        this.listeners = this.listeners.filter((l) => l !== listener);
      };
      const timer = setTimeout(() => {
        end();
        reject(new Error(`No answer to "${name}" within ${REPLY_MS / 1000} s: the kernel is gone, or busy.`));
      }, REPLY_MS);
      this.listeners.push(listener);
      try {
        this.send({ type: "engine", engine_id: engineId, message: { type: "command", id, name, args } });
      } catch (error) {
        end();
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  /** What anywidget offers a view, over this link. */
  private model(engineId: string): WidgetModel {
    return {
      get: (name) => (name === "engine_id" ? engineId : undefined),
      set: () => undefined,
      save_changes: () => undefined,
      on: (event, callback) =>
        void this.listeners.push({ engineId, event, callback: callback as unknown as MessageListener }),
      off: (event, callback) => {
        const same = callback as unknown as MessageListener;
        this.listeners = this.listeners.filter((l) => l.callback !== same || l.event !== event);
      },
      send: (content) => this.send({ type: "engine", engine_id: engineId, message: content as ToEngine }),
    };
  }

  private readonly onAnnounced = (): void => {
    // A kernel announces itself once: whatever was connected before belongs to a process that is gone.
    this.drop();
    void this.connect();
  };

  private async connect(): Promise<void> {
    if (this.disposed || this.comm !== null) return;
    const attempt = ++this.attempt;
    const comm = this.kernel.createComm(TARGET);
    this.comm = comm;
    this.changed();
    comm.onMsg = (message) => this.take(comm, message);
    comm.onClose = () => {
      if (this.comm === comm) this.drop();
    };
    // Opened before its subshell is there, the comm would wait for a running cell.
    const { subshellStarted = Promise.resolve() } = comm as { subshellStarted?: Promise<void> };
    const lend = this.isBusyButKnown();
    const started = lend ? this.lendSubshell(comm, subshellStarted) : subshellStarted;
    await Promise.race([
      started.catch(() => undefined),
      new Promise((done) => setTimeout(done, lend ? REPLY_MS : SUBSHELL_MS)),
    ]);
    if (attempt !== this.attempt || this.disposed) return;
    try {
      comm.open({ protocol: PROTOCOL_VERSION });
    } catch {
      if (this.comm === comm) this.comm = null;
    }
  }

  /**
   * After a reload JupyterLab knows what a kernel can do only once that has answered, which a running cell holds up;
   * this tab knows from before.
   */
  private isBusyButKnown(): boolean {
    return !this.kernel.supportsSubshells && this.memory.hasSubshells(this.kernel.id);
  }

  /** Have the comm's messages go to a subshell of our own until it gets one from JupyterLab. */
  private async lendSubshell(comm: Kernel.IComm, ownStarted: Promise<void>): Promise<void> {
    const id = await this.subshells.create();
    const route = comm as { _subshellId?: string | null };
    route._subshellId ??= id;
    void ownStarted.catch(() => undefined).then(() => this.subshells.remove(id).catch(() => undefined));
  }

  private take(comm: Kernel.IComm, message: KernelMessage.ICommMsgMsg): void {
    if (comm !== this.comm) return;
    const content = message.content.data as unknown as FromKernel;
    if (content.type === "engine") {
      for (const { engineId, event, callback } of [...this.listeners]) {
        if (engineId === content.engine_id && event === "msg:custom") callback(content.message, message.buffers ?? []);
      }
      return;
    }
    if (content.type !== "engines") return;
    this.problem =
      content.protocol === PROTOCOL_VERSION
        ? null
        : `The kernel speaks protocol ${content.protocol}, this page ${PROTOCOL_VERSION}: reload the page.`;
    this.engines = content.engines;
    if (!this.connected) this.begin();
    this.changed();
  }

  /** The kernel has answered: what was open on this line before it broke is opened again. */
  private begin(): void {
    this.connected = true;
    this.memory.add(this.kernel.id, this.kernel.supportsSubshells || this.memory.hasSubshells(this.kernel.id));
    if (this.watchSeconds !== null) this.sendWatch();
    this.attachAgain();
  }

  private attachAgain(): void {
    for (const [engineId, share] of this.shares) {
      if (!this.engines.some((e) => e.engine_id === engineId)) continue;
      share.detach();
      share.detach = share.session.attach(new WidgetSource(this.model(engineId)));
    }
  }

  private sendWatch(): void {
    if (this.connected) this.send({ type: "watch", seconds: this.watchSeconds });
  }

  private send(message: ToKernel): void {
    if (this.comm === null || !this.connected) throw new Error("The kernel is not connected.");
    this.comm.send(message as never);
  }
}
