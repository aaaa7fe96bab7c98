// Draws views when something changed and they can be seen, and not otherwise.

import type { Session } from "../session.ts";
import { Pace } from "./pace.ts";
import { followTheme, type Theme } from "./theme.ts";

export interface View {
  /** True for a view that writes text into canvases: it is drawn before those that change the document. */
  readonly early?: boolean;
  /** Milliseconds between two drawings where steps go by too quickly to follow; without it as often as others. */
  readonly rest?: number;
  draw(): void;
  destroy(): void;
}

export interface ViewContext {
  readonly session: Session;
  /** The colours now; ask again in each draw. */
  theme(): Theme;
  /** Ask for a draw in the next animation frame. */
  invalidate(): void;
}

export type ViewFactory = (element: HTMLElement, context: ViewContext) => View;

interface Entry {
  readonly element: HTMLElement;
  readonly view: View;
  dirty: boolean;
  visible: boolean;
  drawn: number;
}

export class Stage {
  private readonly session: Session;
  private readonly entries: Entry[] = [];
  private readonly stops: (() => void)[] = [];
  private readonly observer: IntersectionObserver;
  private readonly root: HTMLElement;
  private readonly following: ReturnType<typeof followTheme>;
  private theme!: Theme;
  /** False while the colours were read outside a document, where they are all unknown. */
  private themed = false;
  private readonly pace: Pace;
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(session: Session, root: HTMLElement) {
    this.session = session;
    this.pace = new Pace(session);
    this.root = root;
    this.observer = new IntersectionObserver((changes) => {
      for (const change of changes) {
        const entry = this.entries.find((e) => e.element === change.target);
        if (entry === undefined) continue;
        entry.visible = change.isIntersecting;
        entry.dirty = true;
      }
      this.request();
    });
    this.following = followTheme(root, (theme) => {
      this.theme = theme;
      this.themed = root.isConnected;
      this.invalidateAll();
    });
    this.stops.push(
      this.following.stop,
      session.onChange(() => this.changed()),
    );
  }

  add(element: HTMLElement, factory: ViewFactory): void {
    const context: ViewContext = {
      session: this.session,
      theme: () => this.theme,
      invalidate: () => {
        entry.dirty = true;
        this.request();
      },
    };
    // The view may ask for a draw while it is being made, before it can be put into its entry.
    const entry = { element, dirty: true, visible: false, drawn: Number.NEGATIVE_INFINITY } as Entry;
    (entry as { view: View }).view = factory(element, context);
    // Setting a canvas's font brings the whole document's style up to date first; that is dear after each change of it,
    // and free as long as nothing was changed in this frame.
    if (entry.view.early === true) this.entries.unshift(entry);
    else this.entries.push(entry);
    this.observer.observe(element);
  }

  destroy(): void {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.pace.destroy();
    this.observer.disconnect();
    for (const stop of this.stops) stop();
    for (const { view } of this.entries) view.destroy();
  }

  private invalidateAll(): void {
    for (const entry of this.entries) entry.dirty = true;
    this.request();
  }

  private changed(): void {
    const skims = this.pace.skims();
    const now = performance.now();
    for (const entry of this.entries) {
      if (!skims || now - entry.drawn >= (entry.view.rest ?? 0)) entry.dirty = true;
    }
    const rest = this.pace.rest();
    if (rest === 0) this.request();
    else
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        this.request();
      }, rest);
  }

  private request(): void {
    if (this.frame !== 0 || !this.entries.some((e) => e.dirty && e.visible)) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.pace.begin();
      if (!this.themed && this.root.isConnected) this.following.again();
      for (const entry of this.entries) {
        if (!entry.dirty || !entry.visible) continue;
        entry.dirty = false;
        entry.drawn = performance.now();
        entry.view.draw();
      }
    });
  }
}
