// All kernels that this window has a notebook or console of, their engines, and the engine that commands act on.

import type { ISessionContext } from "@jupyterlab/apputils";
import { type Kernel, KernelMessage } from "@jupyterlab/services";

import { setUpdates } from "../registry.ts";
import type { EngineSummary } from "./lab_protocol.ts";
import { KernelLink, type KernelMemory, type Subshells } from "./kernel_link.ts";

export interface EngineRef {
  readonly link: KernelLink;
  readonly engine: EngineSummary;
}

/** One notebook or console and the kernel it runs on. */
export interface Place {
  readonly path: string;
  readonly name: string;
  readonly kernelName: string;
  readonly busy: boolean;
  readonly context: ISessionContext;
  readonly link: KernelLink;
}

export class Hub {
  private readonly contexts = new Set<ISessionContext>();
  private readonly links = new Map<Kernel.IKernelConnection, KernelLink>();
  private readonly listeners = new Set<() => void>();
  private readonly memory: KernelMemory;
  private watchers = 0;
  private activeId: string | null = null;
  private rate = 20;

  constructor(memory: KernelMemory) {
    this.memory = memory;
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Take up a notebook's or console's session, now and whenever its kernel changes. */
  follow(context: ISessionContext): void {
    if (this.contexts.has(context)) return;
    this.contexts.add(context);
    context.kernelChanged.connect(this.refresh, this);
    context.propertyChanged.connect(this.changed, this);
    context.statusChanged.connect((_, status) => {
      const kernel = context.session?.kernel;
      if (status === "restarting" || status === "autorestarting" || status === "dead") {
        if (kernel) this.links.get(kernel)?.drop();
      } else this.changed();
    });
    context.connectionStatusChanged.connect((_, status) => {
      const kernel = context.session?.kernel;
      const link = kernel ? this.links.get(kernel) : undefined;
      if (status === "connected" && link?.connected === false) void link.probe();
    });
    context.disposed.connect(() => {
      this.contexts.delete(context);
      this.refresh();
    });
    this.refresh();
  }

  /** The places with a kernel, each with the line to it. */
  get places(): Place[] {
    const found: Place[] = [];
    for (const context of this.contexts) {
      const kernel = context.session?.kernel;
      const link = kernel ? this.linkOf(kernel.id) : undefined;
      if (link === undefined || kernel === undefined || kernel === null) continue;
      found.push({
        path: context.path,
        name: context.path.split("/").at(-1) ?? context.path,
        kernelName: context.kernelDisplayName,
        busy: kernel.status === "busy",
        context,
        link,
      });
    }
    return found;
  }

  /** Whether a notebook or console is open, be it without a kernel. */
  isOpen(path: string): boolean {
    return [...this.contexts].some((context) => context.path === path);
  }

  placeAt(path: string): Place | undefined {
    return this.places.find((place) => place.path === path);
  }

  get engines(): EngineRef[] {
    return [...this.links.values()].flatMap((link) => link.engines.map((engine) => ({ link, engine })));
  }

  /** The engine that was used last; else the newest that lives. */
  get active(): EngineRef | null {
    const { engines } = this;
    const used = engines.find(({ engine }) => engine.engine_id === this.activeId);
    return used ?? engines.filter(({ engine }) => engine.state !== "closed").at(-1) ?? engines.at(-1) ?? null;
  }

  use(engineId: string): void {
    if (engineId === this.activeId) return;
    this.activeId = engineId;
    this.changed();
  }

  /** The reader has turned to a notebook: its engines come first, unless one of them is in use already. */
  turnTo(context: ISessionContext): void {
    const kernel = context.session?.kernel;
    const engines = kernel ? (this.linkOf(kernel.id)?.engines ?? []) : [];
    if (engines.some((e) => e.engine_id === this.activeId)) return;
    const newest = engines.filter((e) => e.state !== "closed").at(-1);
    if (newest !== undefined) this.use(newest.engine_id);
  }

  /** Somebody looks at the numbers; call the result when they no longer do. */
  watch(): () => void {
    this.watchers += 1;
    this.applyWatch();
    let watching = true;
    return () => {
      if (!watching) return;
      watching = false;
      this.watchers -= 1;
      this.applyWatch();
    };
  }

  /** How many times a second views are updated, at most. */
  setRate(updatesPerSecond: number): void {
    this.rate = updatesPerSecond;
    setUpdates(updatesPerSecond);
    this.applyWatch();
  }

  /** Numbers nobody can see are not asked for: call this when the page is hidden or shown. */
  applyWatch(): void {
    const seconds = this.watchers > 0 && !document.hidden ? Math.max(0.5, 1 / this.rate) : null;
    for (const link of this.links.values()) link.watch(seconds);
  }

  dispose(): void {
    for (const link of this.links.values()) link.dispose();
    this.links.clear();
  }

  private linkOf(kernelId: string): KernelLink | undefined {
    return [...this.links.values()].find((link) => link.kernelId === kernelId);
  }

  /** One link for each kernel, over the connection that handles comms; the other connections to it cannot. */
  private refresh(): void {
    const wanted = new Set<Kernel.IKernelConnection>();
    for (const context of this.contexts) {
      const kernel = context.session?.kernel;
      if (kernel?.handleComms === true && !kernel.isDisposed) wanted.add(kernel);
    }
    for (const [kernel, link] of this.links) {
      if (wanted.has(kernel)) continue;
      this.links.delete(kernel);
      link.dispose();
    }
    for (const kernel of wanted) {
      if (this.links.has(kernel)) continue;
      const link = new KernelLink(kernel, this.memory, subshellsOf(kernel), () => this.changed());
      this.links.set(kernel, link);
    }
    this.applyWatch();
    this.changed();
  }

  private changed(): void {
    for (const listener of [...this.listeners]) listener();
  }
}

/** The kernel's own requests for subshells wait until it has said that it has them, which a running cell holds up. */
function subshellsOf(kernel: Kernel.IKernelConnection): Subshells {
  const about = { channel: "control", username: kernel.username, session: kernel.clientId } as const;
  return {
    create: async () => {
      const message = KernelMessage.createMessage({ ...about, msgType: "create_subshell_request", content: {} });
      const { content } = (await kernel.sendControlMessage(message, true)
        .done) as KernelMessage.ICreateSubshellReplyMsg;
      if ("status" in content && content.status !== "ok") throw new Error("The kernel gave no subshell.");
      return content.subshell_id;
    },
    remove: async (id) => {
      const content = { subshell_id: id };
      const message = KernelMessage.createMessage({ ...about, msgType: "delete_subshell_request", content });
      await kernel.sendControlMessage(message, true).done;
    },
  };
}
