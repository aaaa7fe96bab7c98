// The sidebar: every kernel's engines with their numbers, their views, and pause and step.

import { Widget } from "@lumino/widgets";
import type { Message } from "@lumino/messaging";

import { int, percent } from "../format.ts";
import styles from "../theme.css";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import { followTheme } from "../ui/theme.ts";
import { VIEW_NAMES } from "../views/index.ts";
import type { Hub } from "./hub.ts";
import { arrangeIcon, tutorialIcon, viewIcon, workbenchIcon } from "./icons.ts";
import type { EngineSummary } from "./lab_protocol.ts";
import { type SidebarGroup, sidebarGroups } from "./sidebar_model.ts";
import { commandable, KERNEL_AWAITED, kvShare, stateName, tokensPerSecond, viewTitle } from "./words.ts";

export interface SidebarActions {
  openView(view: string, path: string, engine: EngineSummary): void;
  arrange(path: string, engine: EngineSummary): void;
  toggle(engine: EngineSummary): Promise<unknown>;
  step(engine: EngineSummary): Promise<unknown>;
  openNotebook(path: string): void;
  newPlayground(): void;
  openTutorials(): void;
}

export class Sidebar extends Widget {
  private readonly hub: Hub;
  private readonly actions: SidebarActions;
  private readonly root = h("div", { class: "iw iw-lab-sidebar", "data-testid": "workbench-sidebar" });
  private readonly list = h("div", { class: "iw-lab-groups" });
  private readonly awaited = h("p", { class: "iw-lab-awaited", role: "status", "data-testid": "sidebar-awaited" });
  private readonly empty: HTMLElement;
  private readonly cards = new Map<string, EngineCard>();
  private readonly stops: (() => void)[] = [];
  private unwatch: (() => void) | null = null;

  constructor(hub: Hub, actions: SidebarActions) {
    super();
    this.hub = hub;
    this.actions = actions;
    this.id = "inference-workbench-sidebar";
    this.title.icon = workbenchIcon;
    this.title.caption = "Inference workbench: engines of every kernel";
    this.empty = this.makeEmpty();
    this.node.append(
      h("style", {}, styles),
      h("div", { class: "iw-lab-heading" }, h("h2", {}, "Engines"), this.makeLinks()),
      this.root,
    );
    this.root.append(this.awaited, this.empty, this.list);
    this.node.classList.add("iw-lab-side");
    this.stops.push(
      followTheme(this.root, () => undefined).stop,
      hub.onChange(() => this.refresh()),
    );
    this.refresh();
  }

  override dispose(): void {
    if (this.isDisposed) return;
    this.unwatch?.();
    for (const stop of this.stops) stop();
    super.dispose();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.unwatch ??= this.hub.watch();
    this.refresh();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.unwatch?.();
    this.unwatch = null;
  }

  private refresh(): void {
    if (!this.isVisible && this.list.childElementCount > 0) return;
    const groups = sidebarGroups(this.hub.places);
    const awaited = this.hub.places.filter(({ link }) => link.awaited).map(({ name }) => name);
    this.awaited.hidden = awaited.length === 0;
    setText(
      this.awaited,
      awaited.length === 0 ? "" : `Waiting for the kernel of ${awaited.join(", ")}. ${KERNEL_AWAITED}`,
    );
    this.empty.hidden = groups.length > 0 || awaited.length > 0;
    this.list.hidden = groups.length === 0;
    const kept = new Set<string>();
    const sections = groups.map((group) => this.section(group, kept));
    for (const id of this.cards.keys()) if (!kept.has(id)) this.cards.delete(id);
    const same = sections.length === this.list.children.length && sections.every((s, i) => s === this.list.children[i]);
    if (!same) this.list.replaceChildren(...sections);
  }

  private section(group: SidebarGroup, kept: Set<string>): HTMLElement {
    const id = `iw-kernel-${group.kernelId}`;
    const old = [...this.list.children].find((child) => child.id === id) as HTMLElement | undefined;
    const title = h("button", { class: "iw-lab-kernel", title: group.path });
    const section =
      old ?? h("section", { id, "data-testid": "sidebar-kernel" }, h("header", {}, title, h("span"), h("small")));
    const [button, detail, note] = section.querySelector("header")!.children as unknown as [
      HTMLButtonElement,
      HTMLElement,
      HTMLElement,
    ];
    setText(button, group.title);
    button.onclick = () => this.actions.openNotebook(group.path);
    setText(detail, group.detail);
    setText(note, group.note);
    const cards = group.engines.map((engine) => {
      kept.add(engine.engine_id);
      let card = this.cards.get(engine.engine_id);
      if (card === undefined) {
        card = new EngineCard(group.path, engine, this.actions);
        this.cards.set(engine.engine_id, card);
      }
      card.update(engine, this.hub.active?.engine.engine_id === engine.engine_id, group.engines.length > 1);
      return card.node;
    });
    const shown = [...section.children].slice(1);
    if (shown.length !== cards.length || cards.some((card, i) => card !== shown[i])) {
      for (const card of shown) card.remove();
      section.append(...cards);
    }
    return section;
  }

  private makeLinks(): HTMLElement {
    return h(
      "span",
      { class: "iw-lab-links" },
      iconButton(workbenchIcon, "New playground notebook", () => this.actions.newPlayground()),
      iconButton(tutorialIcon, "Open a tutorial", () => this.actions.openTutorials()),
    );
  }

  private makeEmpty(): HTMLElement {
    const icon = h("div", { class: "iw-lab-waiting-icon" });
    workbenchIcon.element({ container: icon });
    return h(
      "div",
      { class: "iw-lab-empty", "data-testid": "sidebar-empty" },
      icon,
      h("strong", {}, "No engine yet"),
      h("p", {}, "Engines of every open notebook and console are listed here. Make one in a cell:"),
      h("pre", {}, "from workbench import LLM\nllm = LLM()"),
      h(
        "button",
        { class: "iw-button iw-primary", onclick: () => this.actions.newPlayground() },
        "New playground notebook",
      ),
      h("button", { class: "iw-button", onclick: () => this.actions.openTutorials() }, "Open a tutorial"),
    );
  }
}

function iconButton(icon: typeof workbenchIcon, title: string, click: () => void): HTMLButtonElement {
  const button = h("button", { class: "iw-lab-icon", title, "aria-label": title, onclick: click });
  icon.element({ container: button });
  return button;
}

/** One engine. Made once and then only updated, so that focus and hover stay where they are. */
class EngineCard {
  readonly node: HTMLElement;
  private readonly pill = h("span", { class: "iw-pill", "data-testid": "engine-state" });
  private readonly model = h("strong", { class: "iw-lab-model" });
  private readonly facts = h("span", { class: "iw-lab-facts", "data-testid": "engine-facts" });
  private readonly figures = { rate: h("b"), kv: h("b"), running: h("b"), waiting: h("b") };
  private readonly meter = h("i", {});
  private readonly toggle = h("button", { class: "iw-button", "data-testid": "engine-toggle" });
  private readonly step = h("button", { class: "iw-button", "data-testid": "engine-step" }, "▸ Step");
  private readonly failure = h("p", { class: "iw-lab-failure", role: "alert" });
  private engine: EngineSummary;

  constructor(path: string, engine: EngineSummary, actions: SidebarActions) {
    this.engine = engine;
    const tell = (asked: Promise<unknown>): void => {
      asked.then(
        () => setText(this.failure, ""),
        (error: Error) => setText(this.failure, error.message),
      );
    };
    this.toggle.onclick = () => tell(actions.toggle(this.engine));
    this.step.onclick = () => tell(actions.step(this.engine));
    const figure = (name: keyof typeof this.figures, unit: string): HTMLElement =>
      h("span", { "data-testid": `engine-${name}` }, this.figures[name], h("small", {}, unit));
    const open = (view: string): HTMLButtonElement => {
      const icon = h("span");
      viewIcon(view).element({ container: icon });
      return h(
        "button",
        {
          class: "iw-lab-view",
          title: `Open ${viewTitle(view)} in a panel`,
          "data-testid": `open-${view}`,
          onclick: () => actions.openView(view, path, this.engine),
        },
        icon,
        viewTitle(view),
      );
    };
    const arrange = h(
      "button",
      {
        class: "iw-button iw-primary",
        title: "All views beside the notebook, in one click",
        "data-testid": "arrange",
        onclick: () => actions.arrange(path, this.engine),
      },
      "Arrange workbench",
    );
    arrangeIcon.element({ container: arrange.insertAdjacentElement("afterbegin", h("span")) as HTMLElement });
    this.node = h(
      "article",
      { class: "iw-lab-card", "data-testid": "sidebar-engine" },
      h("header", {}, this.model, this.pill),
      this.facts,
      h(
        "div",
        { class: "iw-lab-figures" },
        figure("rate", "tok/s"),
        figure("running", "running"),
        figure("waiting", "waiting"),
        figure("kv", "KV used"),
      ),
      h("div", { class: "iw-lab-meter", "aria-hidden": "true" }, this.meter),
      h("div", { class: "iw-lab-buttons" }, this.toggle, this.step),
      this.failure,
      h("div", { class: "iw-lab-views" }, ...["dashboard", ...VIEW_NAMES].map(open)),
      arrange,
    );
  }

  update(engine: EngineSummary, active: boolean, several: boolean): void {
    this.engine = engine;
    setAttribute(this.node, "data-engine", engine.engine_id);
    this.node.classList.toggle("iw-lab-active", active);
    this.node.classList.toggle("iw-lab-closed", engine.state === "closed");
    setText(this.model, several ? `${engine.model} #${engine.ordinal}` : engine.model);
    setText(this.pill, stateName(engine.state));
    setAttribute(this.pill, "data-mode", engine.state);
    this.pill.title = engine.message ?? "";
    const step = engine.step < 0 ? "no steps yet" : `step ${int(engine.step)}`;
    setText(this.facts, `${engine.device} · ${engine.dtype} · ${step}`);
    setText(this.figures.rate, tokensPerSecond(engine));
    setText(this.figures.kv, percent(kvShare(engine)));
    setText(this.figures.running, int(engine.num_running));
    setText(this.figures.waiting, int(engine.num_waiting));
    setProperty(this.meter, "width", `${(100 * kvShare(engine)).toFixed(1)}%`);
    const paused = engine.state === "paused";
    setText(this.toggle, paused ? "▶ Resume" : "▮▮ Pause");
    this.toggle.disabled = this.step.disabled = !commandable(engine);
  }
}
