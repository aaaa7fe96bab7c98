// Knobs: what a change of memory settings would do, before it is made, and what it did.

import { seconds } from "../format.ts";
import type { Change, Knobs, KnobValue } from "../protocol.ts";
import { CommandFailure } from "../session.ts";
import { h, setAttribute, setText, setValue } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import {
  BLOCK_SIZES,
  BY_NAME,
  bytesOfField,
  changeRows,
  changesOf,
  KV_CACHE_DTYPES,
  mebibytesField,
  positionOfScaled,
  QUANTIZATIONS,
  scaledAt,
  SPARSITIES,
  preemptedText,
  settingsText,
  SLIDER_MAX,
} from "./knobs_model.ts";

/** A moving slider is not asked about for each pixel, in ms. */
const PREDICT_AFTER = 150;
/** How often a prediction is made again while the engine runs on, in ms. */
const PREDICT_AGAIN = 1_000;
/** Weights may have to be read again, in ms. */
const APPLY_WITHIN = 600_000;

type Unit = "mib" | "share";

export function knobsView(element: HTMLElement, context: ViewContext): View {
  return new KnobsView(element, context);
}

class KnobsView implements View {
  private readonly context: ViewContext;
  private readonly form: HTMLElement;
  private readonly away = emptyState("No engine to change", "Knobs belong to a running engine; this is a saved trace.");
  private readonly sizeSlider = slider("KV pool", "knob-size-slider");
  private readonly sizeField = field("KV pool", "knob-size");
  private readonly sizeUnit = h("span", { class: "iw-dim" });
  private readonly counts: Record<"max_num_seqs" | "max_num_batched_tokens", Pair>;
  private readonly selects: Record<
    "kv_cache_dtype" | "block_size" | "enable_prefix_caching" | "scheduling_policy" | "quantization" | "sparsity",
    Select
  >;
  private readonly apply: HTMLButtonElement;
  private readonly reset: HTMLButtonElement;
  private readonly controls: (HTMLButtonElement | HTMLInputElement | HTMLSelectElement)[];
  private readonly headline = h("div", { class: "iw-knob-headline", role: "status", "data-testid": "knob-headline" });
  private readonly moment = h("button", { type: "button", class: "iw-button", "data-testid": "knob-step" });
  private readonly table = h("tbody", {});
  private readonly nowHead = h("th", { class: "iw-num", scope: "col" }, "now");
  private readonly measuredHead = h("th", { class: "iw-num", scope: "col" }, "measured");
  private readonly predictedHead = h("th", { class: "iw-num", scope: "col" }, "predicted");
  private readonly notes = h("div", { class: "iw-facts", "data-testid": "knob-notes" });
  private readonly note = h("div", { class: "iw-note", role: "alert", "data-testid": "knob-notice" });
  /** The smallest change to what was asked for that would fit, as a button. */
  private readonly instead: HTMLButtonElement;
  private readonly calls = h("div", { class: "iw-calls", "data-testid": "knob-calls" });
  private callsKey = "";
  private readonly answer: HTMLElement;
  private draft: Record<string, KnobValue> = {};
  private unit: Unit = "mib";
  /** What the sliders were in the middle at, so that they stand still while the engine changes. */
  private middle: Record<string, number> = {};
  private change: Change | null = null;
  /** The settings in force when `change` was asked for. */
  private before: Knobs = {};
  private failure = "";
  private applying = false;
  private asking = false;
  private askAgain = false;
  private askedAt = 0;
  private askedStep = -1;
  private askedKnobs = "";
  /** The settings that `change` is the answer for; null: a change that was made. */
  private answered: string | null = "";
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const count = (name: "max_num_seqs" | "max_num_batched_tokens", label: string): Pair => {
      const pair = { slider: slider(label, `knob-${name}-slider`), field: field(label, `knob-${name}`) };
      pair.slider.addEventListener("input", () => {
        const value = Math.max(1, Math.round(scaledAt(Number(pair.slider.value), this.middle[name] ?? 1)));
        pair.field.value = String(value);
        this.turn(name, value);
      });
      pair.field.addEventListener("input", () => this.turn(name, numberOf(pair.field)));
      return pair;
    };
    this.counts = {
      max_num_seqs: count("max_num_seqs", "Requests in a batch"),
      max_num_batched_tokens: count("max_num_batched_tokens", "Token budget of a step"),
    };
    const select = (name: string, label: string, options: [KnobValue, string][]): Select => {
      const values = options.map(([value]) => value);
      const element = h(
        "select",
        { class: "iw-select", "aria-label": label, "data-testid": `knob-${name}` },
        ...options.map(([, text], i) => h("option", { value: i }, text)),
      );
      element.addEventListener("change", () => this.turn(name, values[Number(element.value)]!));
      return { element, values };
    };
    this.selects = {
      kv_cache_dtype: select(
        "kv_cache_dtype",
        "KV cache type",
        KV_CACHE_DTYPES.map((name) => [name, name === "auto" ? "auto (as the model)" : name]),
      ),
      block_size: select(
        "block_size",
        "Tokens a block",
        BLOCK_SIZES.map((size) => [size, String(size)]),
      ),
      enable_prefix_caching: select("enable_prefix_caching", "Prefix caching", [
        [true, "on"],
        [false, "off"],
      ]),
      scheduling_policy: select("scheduling_policy", "Scheduling policy", []),
      quantization: select(
        "quantization",
        "Weights",
        QUANTIZATIONS.map((name) => [name, name ?? "as in the checkpoint"]),
      ),
      sparsity: select(
        "sparsity",
        "Sparsity",
        SPARSITIES.map((name) => [name, name ?? "none"]),
      ),
    };
    this.sizeSlider.addEventListener("input", () => {
      this.sizeField.value = this.sizeText(this.sizeAt(Number(this.sizeSlider.value)));
      this.turnSize();
    });
    this.sizeField.addEventListener("input", () => this.turnSize());
    const units = segmented<Unit>(
      "Pool size as",
      [
        ["mib", "MiB", "kv_cache_memory_bytes: the pool's size itself"],
        ["share", "share", "gpu_memory_utilization: the share of the device for weights, workspace and KV together"],
      ],
      this.unit,
      (unit) => {
        this.unit = unit;
        this.dropSize();
        this.askLater(0);
        context.invalidate();
      },
    );
    const button = (text: string, id: string, title: string, onclick: () => void): HTMLButtonElement =>
      h("button", { type: "button", class: "iw-button", "data-testid": id, title, onclick }, text);
    this.apply = button("Apply", "knob-apply", "Make this change between two steps", () => this.doApply());
    this.apply.classList.add("iw-primary");
    this.reset = button("As it is", "knob-reset", "Put all knobs back to what is in force", () => this.doReset());
    this.instead = button("", "knob-instead", "Put the knobs to the nearest settings that fit", () => this.doInstead());
    this.moment.title = "Go to the step that made the change";
    this.moment.addEventListener("click", () => context.session.setCursor(this.change?.step ?? "live"));
    const row = (label: string, title: string, ...parts: HTMLElement[]): HTMLElement =>
      h("div", { class: "iw-knob", title }, h("span", { class: "iw-dim" }, label), ...parts);
    const { max_num_seqs: seqs, max_num_batched_tokens: budget } = this.counts;
    const { selects } = this;
    const size = h("span", { class: "iw-group" }, this.sizeField, this.sizeUnit);
    this.answer = h(
      "div",
      { class: "iw-knob-answer" },
      h("div", { class: "iw-group iw-wrap" }, this.headline, this.moment),
      h(
        "table",
        { class: "iw-ledger", "data-testid": "knob-change" },
        h("thead", {}, h("tr", {}, h("td", {}), this.nowHead, this.predictedHead, this.measuredHead)),
        this.table,
      ),
      this.notes,
      h("div", { class: "iw-group iw-wrap" }, this.note, this.instead),
      this.calls,
    );
    this.form = h(
      "div",
      { class: "iw-knob-form", "data-testid": "knobs" },
      h(
        "div",
        { class: "iw-knob-rows" },
        row("Pool size as", "How the size of the KV pool is given", units),
        row("KV pool", "kv_cache_memory_bytes or gpu_memory_utilization", this.sizeSlider, size),
        row("KV cache type", "kv_cache_dtype", selects.kv_cache_dtype.element),
        row("Tokens a block", "block_size", selects.block_size.element),
        row("Requests in a batch", "max_num_seqs", seqs.slider, seqs.field),
        row("Token budget", "max_num_batched_tokens", budget.slider, budget.field),
        row("Prefix caching", "enable_prefix_caching", selects.enable_prefix_caching.element),
        row("Scheduling policy", "scheduling_policy", selects.scheduling_policy.element),
        row("Weights", "quantization", selects.quantization.element),
        row("Sparsity", "sparsity: 2 of every 4 weights dropped; 2:4-dense stores zeros", selects.sparsity.element),
        h("div", { class: "iw-group" }, this.apply, this.reset),
      ),
      this.answer,
    );
    element.append(this.form, this.away);
    const pairs = Object.values(this.counts).flatMap((pair) => [pair.slider, pair.field]);
    this.controls = [this.sizeSlider, this.sizeField, ...pairs, ...Object.values(selects).map((s) => s.element)];
  }

  draw(): void {
    const { session } = this.context;
    const knobs = session.store.status?.knobs;
    this.form.hidden = !session.interactive && session.connection === "live";
    this.away.hidden = !this.form.hidden;
    if (this.form.hidden) return;
    const ready = session.commandable && knobs !== undefined;
    for (const control of this.controls) control.disabled = !ready || this.applying;
    const changes = knobs === undefined ? {} : changesOf(this.draft, knobs);
    const changed = Object.keys(changes).length > 0;
    const stale = changed && this.answered !== JSON.stringify(changes);
    const refused = (this.change?.refused ?? null) !== null || this.failure !== "";
    this.apply.disabled = !ready || !changed || stale || refused || this.applying;
    this.reset.disabled = !ready || Object.keys(this.draft).length === 0 || this.applying;
    if (knobs !== undefined) this.drawKnobs(knobs);
    this.drawAnswer(changed, stale);
    if (ready && knobs !== undefined) this.keepFresh(knobs, changed);
  }

  destroy(): void {
    clearTimeout(this.timer);
  }

  private drawKnobs(knobs: Knobs): void {
    const bytes = knobs["kv_cache_memory_bytes"]?.[1];
    const share = knobs["gpu_memory_utilization"]?.[0];
    this.middle["size"] ??= Number(bytes);
    setText(this.sizeUnit, this.unit === "mib" ? "MiB" : "of the device");
    const now = this.unit === "mib" ? Number(bytes) : Number(share);
    const drafted = this.draft[this.sizeName()];
    const size = typeof drafted === "number" ? drafted : now;
    setBounds(this.sizeSlider, this.unit === "mib" ? [0, SLIDER_MAX, 1] : [0.05, 1, 0.01]);
    const position = this.unit === "mib" ? positionOfScaled(size, this.middle["size"]) : size;
    keep(this.sizeSlider, String(position));
    if (drafted !== null) keep(this.sizeField, this.sizeText(size));
    setAttribute(this.sizeSlider, "aria-valuetext", `${this.sizeText(size)} ${this.unit === "mib" ? "MiB" : ""}`);
    mark(this.sizeField, drafted !== undefined);
    for (const [name, pair] of Object.entries(this.counts)) {
      const inForce = Number(knobs[name]?.[1]);
      const middle = (this.middle[name] ??= inForce);
      const value = this.draft[name];
      const shown = typeof value === "number" ? value : inForce;
      keep(pair.slider, String(positionOfScaled(shown, middle)));
      setAttribute(pair.slider, "aria-valuetext", String(shown));
      if (value !== null) keep(pair.field, String(shown));
      mark(pair.field, value !== undefined && value !== inForce);
    }
    for (const policy of this.context.session.store.status?.policies ?? [])
      offer(this.selects.scheduling_policy, policy);
    for (const [name, select] of Object.entries(this.selects)) {
      const { element, values } = select;
      const knob = knobs[name];
      (element.parentElement as HTMLElement).hidden = knob === undefined;
      if (knob === undefined) continue;
      const now = BY_NAME.includes(name) ? knob[0] : knob[1];
      const wanted = name in this.draft ? this.draft[name]! : now;
      offer(select, wanted);
      keep(element, String(values.indexOf(wanted)));
      mark(element, wanted !== now);
    }
  }

  private drawAnswer(changed: boolean, stale: boolean): void {
    const { session } = this.context;
    const { change } = this;
    const measured = change?.measured ?? null;
    this.answer.toggleAttribute("data-stale", stale && this.failure === "");
    this.predictedHead.hidden = measured === null && !changed;
    this.measuredHead.hidden = measured === null;
    setText(this.nowHead, measured === null ? "now" : "before");
    const rows = change === null ? [] : changeRows(change, this.before, session.store.status?.knobs ?? {});
    const texts = rows.map((row) => [
      row.label,
      row.now,
      ...(this.predictedHead.hidden ? [] : [row.predicted]),
      ...(row.measured === null ? [] : [row.measured]),
    ]);
    const key = JSON.stringify(texts);
    if (this.table.dataset["key"] !== key) {
      this.table.dataset["key"] = key;
      this.table.replaceChildren(
        ...rows.map((row, i) => {
          const cells = texts[i]!.map((text, j) => h(j === 0 ? "th" : "td", { class: j === 0 ? "" : "iw-num" }, text));
          cells[0]!.setAttribute("scope", "row");
          return h("tr", { class: row.differs && !this.predictedHead.hidden ? "iw-differs" : "" }, ...cells);
        }),
      );
    }
    setText(this.headline, this.headlineText(changed, stale));
    const step = measured === null ? null : (change?.step ?? null);
    this.moment.hidden = step === null;
    setText(this.moment, `step ${step}`);
    const told = change !== null && change.refused === null && (changed || measured !== null);
    setText(this.notes, told ? [...change.notes, preemptedText(change)].join(" ") : "");
    const why = changed && !stale ? (change?.refused ?? null) : null;
    const refused = why === null ? "" : `This would be refused: ${why}.`;
    const fits = why === null ? null : (change?.instead ?? null);
    this.instead.hidden = fits === null || !session.commandable;
    setText(this.instead, fits === null ? "" : `What would fit: ${settingsText(fits)}`);
    this.drawCalls(why === null ? [] : (change?.calls ?? []));
    const where = session.commandable ? "" : awayText(session.connection, session.store.status?.state);
    setText(this.note, where || this.failure || refused);
    this.note.dataset["kind"] = this.note.textContent === "" ? "" : "bad";
  }

  private headlineText(changed: boolean, stale: boolean): string {
    const { change } = this;
    if (!this.context.session.commandable) return "";
    if (this.applying) return "Changing it between two steps …";
    if (this.failure !== "") return "It cannot be";
    if (change === null || stale) return "Asking the engine …";
    if (change.measured !== null) {
      return change.seconds === null ? "Changed" : `Changed; it held the engine up for ${seconds(change.seconds)}`;
    }
    if (!changed) return "As it is now. Move a knob to see what it would do.";
    if (change.refused !== null) return "It does not fit";
    const paused = this.context.session.store.status?.state === "paused";
    return paused ? "Predicted. The engine is paused; Apply works all the same." : "Predicted, nothing is changed yet";
  }

  /** Predictions grow old: other settings came into force, or the engine went on. */
  private keepFresh(knobs: Knobs, changed: boolean): void {
    if (this.applying || this.asking || this.timer !== undefined) return;
    const text = JSON.stringify(knobs);
    const step = this.context.session.store.status?.step ?? -1;
    const shown = this.change !== null && this.change.measured !== null;
    if (this.failure !== "" && text === this.askedKnobs) return;
    if (text !== this.askedKnobs && !shown) this.askLater(0);
    else if (changed && step !== this.askedStep && performance.now() - this.askedAt > PREDICT_AGAIN) this.askLater(0);
  }

  private sizeName(): string {
    return this.unit === "mib" ? "kv_cache_memory_bytes" : "gpu_memory_utilization";
  }

  private sizeAt(position: number): number {
    return this.unit === "mib" ? Math.round(scaledAt(position, this.middle["size"] ?? 1)) : position;
  }

  private sizeText(size: number): string {
    return this.unit === "mib" ? mebibytesField(size) : String(Math.round(size * 100) / 100);
  }

  private turnSize(): void {
    this.turn(this.sizeName(), this.unit === "mib" ? bytesOfField(this.sizeField.value) : numberOf(this.sizeField));
  }

  private dropSize(): void {
    const sizes = ["kv_cache_memory_bytes", "gpu_memory_utilization"];
    this.draft = Object.fromEntries(Object.entries(this.draft).filter(([name]) => !sizes.includes(name)));
  }

  private turn(name: string, value: KnobValue): void {
    this.draft = { ...this.draft, [name]: value };
    this.failure = "";
    this.askLater();
    this.context.invalidate();
  }

  private askLater(after = PREDICT_AFTER): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.ask();
    }, after);
  }

  /** One prediction at a time; what is asked for meanwhile is asked once, with the newest values. */
  private ask(): void {
    if (this.asking || this.applying) {
      this.askAgain = true;
      return;
    }
    const { session } = this.context;
    const { status } = session.store;
    const knobs = status?.knobs;
    if (knobs === undefined) return;
    const empty = Object.entries(this.draft).find(([name, value]) => value === null && !BY_NAME.includes(name));
    if (empty !== undefined) {
      this.failure = `${empty[0]} needs a number above 0.`;
      this.context.invalidate();
      return;
    }
    const changes = changesOf(this.draft, knobs);
    this.asking = true;
    this.askedAt = performance.now();
    this.askedStep = status?.step ?? -1;
    this.askedKnobs = JSON.stringify(knobs);
    session
      .command("predict", changes)
      .then(
        (change) => {
          this.change = change;
          this.answered = JSON.stringify(changes);
          this.before = knobs;
          this.failure = "";
        },
        (error: Error) => {
          this.answered = JSON.stringify(changes);
          this.failure = named(error);
        },
      )
      .finally(() => {
        this.asking = false;
        if (this.askAgain) this.askLater(0);
        this.askAgain = false;
        this.context.invalidate();
      });
  }

  private doApply(): void {
    const { session } = this.context;
    const knobs = session.store.status?.knobs;
    if (knobs === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.applying = true;
    this.context.invalidate();
    session
      .command("configure", changesOf(this.draft, knobs), APPLY_WITHIN)
      .then(
        (change) => {
          this.change = change;
          this.before = knobs;
          this.answered = null;
          this.draft = {};
          this.middle = {};
          this.failure = "";
        },
        (error: Error) => (this.failure = named(error)),
      )
      .finally(() => {
        this.applying = false;
        this.context.invalidate();
      });
  }

  /** Calls that fit one after the other, as code to copy into a cell. */
  private drawCalls(calls: Change["calls"]): void {
    this.calls.hidden = calls.length === 0;
    const key = JSON.stringify(calls);
    if (key === this.callsKey) return;
    this.callsKey = key;
    if (calls.length === 0) {
      this.calls.replaceChildren();
      return;
    }
    const lines = calls.map(([code, why]) => h("li", {}, h("code", {}, code), h("span", { class: "iw-dim" }, why)));
    const head = h("p", {}, "One after the other it fits. Run in cells, in this order:");
    this.calls.replaceChildren(head, h("ol", {}, ...lines));
  }

  private doInstead(): void {
    const fits = this.change?.instead ?? null;
    if (fits === null) return;
    const unit: Unit = "gpu_memory_utilization" in fits ? "share" : "mib";
    this.form.querySelector<HTMLElement>(`[data-testid="pool-size-as-${unit}"]`)?.click();
    this.dropSize();
    this.draft = { ...this.draft, ...fits };
    this.apply.focus();
    this.askLater(0);
    this.context.invalidate();
  }

  private doReset(): void {
    this.draft = {};
    this.middle = {};
    this.failure = "";
    this.change = null;
    this.askLater(0);
    this.context.invalidate();
  }
}

interface Pair {
  readonly slider: HTMLInputElement;
  readonly field: HTMLInputElement;
}

interface Select {
  readonly element: HTMLSelectElement;
  readonly values: KnobValue[];
}

function offer({ element, values }: Select, value: KnobValue): void {
  if (values.includes(value)) return;
  element.append(h("option", { value: values.length }, String(value)));
  values.push(value);
}

function awayText(connection: string, state: string | undefined): string {
  if (connection === "connecting") return "Connecting to the engine …";
  if (connection === "lost") return "The engine does not answer; what is shown is what it said last.";
  return state === "closed" ? "This engine was shut down." : "This engine has failed; it takes no changes.";
}

/** An error as Python names it. */
function named(error: Error): string {
  return error instanceof CommandFailure ? `${error.kind}: ${error.message}` : error.message;
}

function slider(label: string, id: string): HTMLInputElement {
  return h("input", { type: "range", min: 0, max: SLIDER_MAX, step: 1, "aria-label": label, "data-testid": id });
}

function field(label: string, id: string): HTMLInputElement {
  return h("input", {
    type: "number",
    class: "iw-field",
    step: "any",
    min: 0,
    inputmode: "decimal",
    "aria-label": label,
    "data-testid": id,
  });
}

function numberOf(input: HTMLInputElement): number | null {
  const value = Number(input.value);
  return input.value.trim() === "" || !Number.isFinite(value) || value <= 0 ? null : value;
}

function setBounds(input: HTMLInputElement, [min, max, step]: readonly [number, number, number]): void {
  setAttribute(input, "min", String(min));
  setAttribute(input, "max", String(max));
  setAttribute(input, "step", String(step));
}

/** Show a value unless the reader is just setting it. */
function keep(input: HTMLInputElement | HTMLSelectElement, value: string): void {
  if (document.activeElement !== input) setValue(input, value);
}

function mark(element: HTMLElement, changed: boolean): void {
  element.toggleAttribute("data-changed", changed);
}
