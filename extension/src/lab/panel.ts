// A panel of the main area: one view of one engine, which it follows through hiding, reloads and restarts.

import { MessageLoop, type Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";

import { mount } from "../mount.ts";
import { holdSession } from "../registry.ts";
import { h } from "../ui/dom.ts";
import { chooseEngine } from "./engine_choice.ts";
import type { Hub, Place } from "./hub.ts";
import { viewIcon } from "./icons.ts";
import type { KernelLink } from "./kernel_link.ts";
import type { EngineSummary } from "./lab_protocol.ts";
import { KERNEL_AWAITED, viewTitle, whichEngine } from "./words.ts";

/** What a panel is, in a form that the layout restorer keeps. */
export interface PanelArgs {
  id: string;
  view: string;
  /** The notebook or console whose kernel has the engine. */
  path: string;
  engineId: string;
  ordinal: number;
}

export interface PanelActions {
  openNotebook(path: string): void;
  /** The panel shows another engine than before. */
  rebound(panel: ViewPanel): void;
}

/** The controls may ask for this share of the window; beyond it they scroll. */
const MOST_OF_WINDOW = 0.4;
/** While panels are arranged they are narrow for a moment, and their rows many: that is not what they will need. */
const SETTLE_MS = 100;

interface Held {
  readonly engineId: string;
  readonly link: KernelLink;
  /** Takes the panel off the stream; null while it is out of sight. */
  release: (() => void) | null;
  readonly unmount: () => void;
  readonly forget: () => void;
}

export class ViewPanel extends Widget {
  private readonly hub: Hub;
  private readonly actions: PanelActions;
  private wanted: PanelArgs;
  private held: Held | null = null;
  private readonly banner = h("div", { class: "iw-lab-banner", role: "status" });
  private readonly body = h("div", { class: "iw-lab-body" });
  private readonly waiting = h("div", { class: "iw-lab-waiting", role: "status", "data-testid": "panel-waiting" });
  private readonly stop: () => void;
  private readonly content = new ResizeObserver(() => {
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.keepInSight(), SETTLE_MS);
  });
  private settling: ReturnType<typeof setTimeout> | undefined;

  constructor(hub: Hub, args: PanelArgs, actions: PanelActions) {
    super();
    this.hub = hub;
    this.wanted = args;
    this.actions = actions;
    this.id = args.id;
    this.addClass("iw-lab-panel");
    this.node.dataset["testid"] = `panel-${args.view}`;
    this.node.tabIndex = -1;
    this.title.icon = viewIcon(args.view);
    this.title.closable = true;
    this.node.append(this.banner, this.body, this.waiting);
    this.node.addEventListener("focusin", () => this.hub.use(this.wanted.engineId));
    this.stop = hub.onChange(() => this.refresh());
    this.retitle(null);
  }

  get args(): PanelArgs {
    return this.wanted;
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.stop();
    this.content.disconnect();
    this.letGo();
    super.dispose();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.refresh();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.refresh();
  }

  /** Out of sight, a panel takes no frames; it keeps what it has shown, its cursor and its drafts. */
  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.held?.release?.();
    if (this.held !== null) this.held.release = null;
  }

  /** A closed panel is gone: nothing may go on streaming to it. */
  protected override onCloseRequest(message: Message): void {
    super.onCloseRequest(message);
    this.dispose();
  }

  protected override onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.hub.use(this.wanted.engineId);
    const inside = this.node.querySelector<HTMLElement>(".iw");
    (inside ?? this.node).focus({ preventScroll: true });
  }

  private refresh(): void {
    if (this.isDisposed) return;
    const place = this.hub.placeAt(this.wanted.path);
    const engine = place === undefined ? null : chooseEngine(this.wanted, place.link.engines);
    this.retitle(engine);
    if (place !== undefined && engine !== null && this.isVisible) this.display(engine, place.link);
    this.explain(place, engine !== null);
  }

  private display(engine: EngineSummary, link: KernelLink): void {
    const { held } = this;
    if (held?.engineId === engine.engine_id && held.link === link) {
      held.release ??= link.share(engine.engine_id).release;
      return;
    }
    this.letGo();
    const { session, release } = link.share(engine.engine_id);
    // The session outlives the times in which the panel is out of sight and takes no part in it.
    const forget = holdSession(engine.engine_id).release;
    const unmount = mount(session, this.wanted.view, this.body);
    // In a panel a view that is too long scrolls, and the keyboard must be able to do it.
    if (this.wanted.view !== "dashboard") this.body.querySelector(".iw-panel")?.setAttribute("tabindex", "0");
    const controls = this.wanted.view === "controls" ? this.body.querySelector(".iw-controls") : null;
    if (controls !== null) for (const element of [this.banner, controls]) this.content.observe(element);
    this.held = { engineId: engine.engine_id, link, release, unmount, forget };
    if (engine.engine_id !== this.wanted.engineId) {
      this.wanted = { ...this.wanted, engineId: engine.engine_id };
      this.actions.rebound(this);
    }
  }

  /** However the controls break into rows, and whatever they have to say, the panel is never smaller than they are. */
  private keepInSight(): void {
    const controls = this.body.querySelector<HTMLElement>(".iw-controls");
    if (this.isDisposed || controls === null || !this.isVisible) return;
    const least = Math.min(controls.offsetHeight + this.banner.offsetHeight, MOST_OF_WINDOW * window.innerHeight);
    const text = `${Math.ceil(least)}px`;
    if (this.node.style.minHeight === text) return;
    this.node.style.minHeight = text;
    if (this.parent !== null) MessageLoop.postMessage(this.parent, Widget.Msg.FitRequest);
  }

  private letGo(): void {
    this.content.disconnect();
    this.held?.unmount();
    this.held?.release?.();
    this.held?.forget();
    this.held = null;
  }

  /** What to say when there is no engine to show, over nothing or over what was seen last. */
  private explain(place: Place | undefined, engine: boolean): void {
    const name = this.wanted.path.split("/").at(-1) ?? this.wanted.path;
    const open = this.hub.isOpen(this.wanted.path);
    const problem = place?.link.problem ?? null;
    const gone = place === undefined || !engine;
    this.banner.hidden = !(problem !== null || (gone && this.held !== null));
    this.waiting.hidden = this.held !== null;
    if (problem !== null) return this.banner.replaceChildren(problem);
    if (!gone) return;
    const button = (text: string): HTMLElement =>
      h("button", { class: "iw-lab-button", onclick: () => this.actions.openNotebook(this.wanted.path) }, text);
    if (this.held !== null) {
      const lacks = place === undefined ? "has no kernel now" : "has no engine now";
      const text = `Seen last: ${name} ${open ? lacks : "is not open"}.`;
      const title = `This is what was seen last. Run the cell of ${name} that makes an engine, and the panel goes on with it.`;
      return this.banner.replaceChildren(h("span", { title }, text), button(open ? "Notebook" : "Open"));
    }
    const icon = h("div", { class: "iw-lab-waiting-icon" });
    viewIcon(this.wanted.view).element({ container: icon });
    const [title, ...words] = !open
      ? [`${name} is not open`, "This panel shows an engine of that notebook's kernel."]
      : place === undefined
        ? [`${name} has no kernel`, "Start one and run the cell that makes an engine. This panel shows it then."]
        : place.link.awaited
          ? [`Waiting for the kernel of ${name}`, KERNEL_AWAITED]
          : [
              `Waiting for an engine in ${name}`,
              "Run the cell that makes one: ",
              h("code", {}, "llm = LLM()"),
              ". This panel shows it then.",
            ];
    this.waiting.replaceChildren(
      icon,
      h("strong", {}, title),
      h("p", {}, ...words),
      button(open ? "Go to the notebook" : "Open the notebook"),
    );
  }

  private retitle(engine: EngineSummary | null): void {
    const place = this.hub.placeAt(this.wanted.path);
    const which = place === undefined || engine === null ? "" : whichEngine(engine, place, this.hub.engines);
    this.title.label = `${viewTitle(this.wanted.view)}${which}`;
    const model = engine === null ? "no engine yet" : `${engine.model}, engine ${engine.ordinal}`;
    this.title.caption = `${viewTitle(this.wanted.view)}: ${model}\n${this.wanted.path}`;
  }
}
