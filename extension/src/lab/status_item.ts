// The status bar's item: the active engine's rate, KV use and state; a click opens the sidebar.

import { Signal } from "@lumino/signaling";
import { Widget } from "@lumino/widgets";

import { h, setAttribute, setText } from "../ui/dom.ts";
import type { Hub } from "./hub.ts";
import { stateName, statusLine } from "./words.ts";

export class StatusItem extends Widget {
  readonly activeStateChanged = new Signal<this, undefined>(this);
  private readonly hub: Hub;
  private readonly button: HTMLButtonElement;
  private readonly text = h("span");
  private unwatch: (() => void) | null = null;
  private enabled = true;
  private shown = false;

  constructor(hub: Hub, open: () => void) {
    super();
    this.hub = hub;
    this.addClass("jp-mod-highlighted");
    this.button = h("button", { class: "iw-lab-status", "data-testid": "workbench-status", onclick: open }, this.text);
    this.node.append(this.button);
    hub.onChange(() => this.refresh());
  }

  /** True while there is an engine to speak of. */
  get active(): boolean {
    return this.enabled && this.hub.active !== null;
  }

  setEnabled(enabled: boolean): void {
    this.enabled = enabled;
    this.refresh();
  }

  private refresh(): void {
    if (this.active !== this.shown) {
      this.shown = this.active;
      this.activeStateChanged.emit(undefined);
      if (this.shown) this.unwatch = this.hub.watch();
      else this.unwatch?.();
    }
    const active = this.hub.active;
    if (active === null) return;
    const { engine } = active;
    setText(this.text, statusLine(engine));
    setAttribute(this.button, "data-mode", engine.state);
    this.button.title = `${engine.model}, ${stateName(engine.state)}: ${engine.num_running} running, ${engine.num_waiting} waiting. Click for all engines.`;
  }
}
