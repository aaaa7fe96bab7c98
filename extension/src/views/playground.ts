// Playground: several prompts at once, their tokens as they come, each with its probability and latency.

import type { Session } from "../session.ts";
import { h, setAttribute, setText } from "../ui/dom.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { CompareBar } from "./playground_compare.ts";
import type { Branch } from "./playground_branch.ts";
import { guestsAt } from "./playground_guests.ts";
import { type CardActions, PlaygroundCard } from "./playground_card.ts";
import { samplingForm } from "./sampling_form.ts";
import { type Shading, shadeLegend, typicalGap } from "./token_text.ts";

const MAX_PROMPTS = 8;
const FIRST_PROMPTS = 2;
/** So much of a card shows its name and some of its text, in px. */
const IN_SIGHT = 80;

const QUEUED = "Queued. The engine is paused: resume or step to run it.";

export function playgroundView(element: HTMLElement, context: ViewContext): View {
  return new PlaygroundView(element, context);
}

class PlaygroundView implements View {
  private readonly context: ViewContext;
  private readonly session: Session;
  private readonly form = samplingForm();
  private readonly cards: PlaygroundCard[] = [];
  private readonly guests: PlaygroundCard[] = [];
  private readonly legend = h("span", { class: "iw-legend", "data-testid": "shade-legend" });
  private readonly actions: CardActions = {
    run: () => void this.run(),
    rerun: (card) => void this.submit([card]),
    stop: (card) => this.cancel(card.request),
    remove: (card) => this.removeCard(card),
    branch: (branch) => this.branch(branch),
    focused: (card) => (this.lastFocused = card),
  };
  private readonly grid = h("div", { class: "iw-cards" });
  private readonly starters = h("select", { class: "iw-select", "aria-label": "Starters", "data-testid": "starters" });
  private readonly runButton: HTMLButtonElement;
  private readonly stopButton: HTMLButtonElement;
  private readonly addButton: HTMLButtonElement;
  private readonly note = h("div", { class: "iw-note", role: "alert", "data-testid": "playground-notice" });
  private readonly card: HoverCard;
  private readonly own = new Set<string>();
  private readonly compare: CompareBar;
  private readonly root = h("div", { class: "iw-playground", "data-testid": "playground" });
  private readonly shades: HTMLElement;
  private readonly engines: HTMLElement;
  private takenRun = "";
  private shading: Shading = "probability";
  private startersFor = "";
  private lastFocused: PlaygroundCard | null = null;
  private lastPicked: string | null = null;

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    this.session = context.session;
    const button = (text: string, title: string, id: string, click: () => void): HTMLButtonElement =>
      h("button", { type: "button", class: "iw-button", title, "data-testid": id, onclick: click }, text);
    this.runButton = button("▶ Run", "Send all prompts (Ctrl+Enter in a prompt)", "run", () => void this.run());
    this.runButton.classList.add("iw-primary");
    this.stopButton = button("■ Stop", "Cancel this playground’s requests", "stop", () => this.stop());
    this.addButton = button("+ Prompt", "One more prompt beside the others", "add-prompt", () =>
      this.addCard("").prompt?.focus(),
    );
    this.starters.addEventListener("change", () => this.useStarter());
    this.compare = new CompareBar(this.session);
    this.engines = segmented<"one" | "two">(
      "Engines",
      [
        ["one", "one engine", "Prompts, and what this engine says"],
        ["two", "two side by side", "The same prompts on two engines, and where their answers part"],
      ],
      "one",
      (value) => {
        this.session.lockstep.wanted = value === "two";
        this.say("", false);
        this.session.touch();
      },
    );
    this.shades = segmented<Shading>(
      "Shade by",
      [
        ["probability", "probability", "The less likely a token was, the stronger its shade"],
        ["latency", "latency", "The slower a token was, the stronger its shade"],
        ["none", "plain", "Text alone"],
      ],
      "probability",
      (shading) => {
        this.shading = shading;
        context.invalidate();
      },
    );
    const { root } = this;
    root.append(
      h(
        "div",
        { class: "iw-toolbar" },
        this.runButton,
        this.stopButton,
        this.addButton,
        this.starters,
        this.engines,
        this.shades,
      ),
      h("div", { class: "iw-asks" }, this.form.element, this.compare.element),
      this.legend,
      this.compare.legend,
      this.note,
      this.grid,
    );
    element.append(root);
    this.card = new HoverCard(root);
    for (let i = 0; i < FIRST_PROMPTS; i++) this.addCard("");
  }

  draw(): void {
    const { session } = this;
    const { store } = session;
    this.fillStarters();
    const live = [...this.own].filter((id) => store.requests.get(id)?.ending === null);
    if (this.note.textContent === QUEUED && !(store.status?.state === "paused" && this.queued)) this.say("", false);
    // Of a saved trace there is only to read: nothing asks for prompts that nobody would answer.
    const saved = !session.interactive && session.connection === "live";
    for (const asks of [this.runButton, this.stopButton, this.addButton, this.starters, this.form.element]) {
      asks.hidden = saved;
    }
    this.runButton.disabled = !session.commandable;
    this.stopButton.disabled = !session.commandable || live.length === 0;
    this.addButton.disabled = this.cards.length >= MAX_PROMPTS;
    this.engines.hidden = !session.interactive;
    const two = session.interactive && this.compare.shown;
    this.root.toggleAttribute("data-two", two);
    for (const button of this.engines.querySelectorAll("button")) {
      const on = button.dataset["testid"] === (two ? "engines-two" : "engines-one");
      setAttribute(button, "aria-pressed", String(on));
    }
    this.compare.element.hidden = this.compare.legend.hidden = !two;
    this.shades.hidden = this.legend.hidden = two;
    if (two) {
      this.drawTwo();
      return;
    }
    this.drawGuests();
    const theme = this.context.theme();
    for (const card of [...this.cards, ...this.guests]) card.draw(this.shading, theme);
    if (saved) for (const card of this.cards) card.element.hidden = true;
    this.drawLegend();
    this.showPicked();
  }

  destroy(): void {
    this.card.hide();
  }

  private drawTwo(): void {
    const { lockstep, commandable } = this.session;
    this.compare.draw();
    this.runButton.disabled = !commandable || this.compare.running;
    this.stopButton.disabled = !commandable || !this.compare.running;
    if (lockstep.run !== this.takenRun) this.takeRun();
    if (this.note.textContent === "" || this.note.dataset["of"] === "job") {
      this.say(this.compare.failure, true);
      setAttribute(this.note, "data-of", "job");
    }
    for (const guest of this.guests) guest.element.hidden = true;
    for (const card of this.cards) {
      card.drawTwo(card.duelIndex === null ? null : (lockstep.duels[card.duelIndex] ?? null));
    }
  }

  /** Each prompt of a comparison has its column: the one it was typed into, or, on another page, one made for it. */
  private takeRun(): void {
    const { lockstep } = this.session;
    this.takenRun = lockstep.run;
    for (const card of this.cards) card.duelIndex = null;
    const starters = new Set((this.session.store.info?.starters ?? []).map((s) => s.text));
    lockstep.duels.forEach((duel, i) => {
      this.own.add(duel.request);
      const free = this.cards.filter((card) => card.prompt !== null && card.duelIndex === null);
      const typed = free.find((card) => card.prompt!.value === duel.prompt);
      const empty = free.find(({ prompt }) => prompt!.value.trim() === "" || starters.has(prompt!.value));
      const card = typed ?? empty ?? this.addCard("");
      card.prompt!.value = duel.prompt;
      card.duelIndex = i;
    });
  }

  /** True while a request of this playground has not been looked at by the engine. */
  private get queued(): boolean {
    return this.cards.some((card) => {
      const info = this.session.store.requests.get(card.request ?? "");
      return card.request !== null && (info === undefined || (info.firstScheduled === null && info.ending === null));
    });
  }

  private drawLegend(): void {
    const gap = this.shading === "latency" ? typicalGap(this.session.store).toPrecision(2) : "";
    const key = `${this.shading} ${this.context.theme().dark} ${gap}`;
    if (this.legend.dataset["key"] === key) return;
    this.legend.dataset["key"] = key;
    this.legend.replaceChildren(...shadeLegend(this.shading, this.session.store, this.context.theme()));
  }

  /** The card of a request that was picked elsewhere is brought into sight; one that is in sight stays where it is. */
  private showPicked(): void {
    const { request } = this.session.selection;
    if (request === this.lastPicked) return;
    this.lastPicked = request;
    const card = request === null ? undefined : [...this.cards, ...this.guests].find((c) => c.request === request);
    if (card === undefined) return;
    const box = this.grid.getBoundingClientRect();
    const at = card.element.getBoundingClientRect();
    if (at.top > box.bottom - IN_SIGHT || at.bottom < box.top + IN_SIGHT) this.grid.scrollTop += at.top - box.top - 2;
  }

  private drawGuests(): void {
    const { store, cursor, selection } = this.session;
    const before = this.guests.map((guest) => guest.request!);
    const shown = guestsAt(store, cursor, { own: this.own, selected: selection.request, before });
    while (this.guests.length < shown.length) this.guests.push(this.place(null));
    while (this.guests.length > shown.length) this.guests.pop()!.element.remove();
    shown.forEach((id, i) => (this.guests[i]!.request = id));
  }

  /** A new column: the reader's own before those of requests from elsewhere. */
  private place(kind: string | Branch | null): PlaygroundCard {
    const card = new PlaygroundCard(this.session, this.card, this.actions, kind, this.cards.length + 1);
    this.grid.insertBefore(card.element, kind === null ? null : (this.guests[0]?.element ?? null));
    return card;
  }

  private addCard(kind: string | Branch): PlaygroundCard {
    const card = this.place(kind);
    this.cards.push(card);
    this.context.invalidate();
    return card;
  }

  private removeCard(card: PlaygroundCard): void {
    const prompts = this.cards.filter((other) => other.prompt !== null);
    if (card.prompt !== null && prompts.length === 1) {
      card.prompt.value = "";
      card.request = null;
    } else {
      this.cards.splice(this.cards.indexOf(card), 1);
      card.element.remove();
    }
    this.context.invalidate();
  }

  /** A column that goes on from a token; it starts at once. */
  private branch(branch: Branch): void {
    if (this.cards.length >= MAX_PROMPTS) {
      this.say(`There is room for ${MAX_PROMPTS} columns: remove one first.`, true);
      return;
    }
    const card = this.addCard(branch);
    void this.submit([card]);
    card.element.scrollIntoView({ block: "nearest" });
  }

  private async run(): Promise<void> {
    const cards = this.cards.filter((card) => (card.prompt?.value ?? "").trim() !== "");
    if (cards.length === 0) {
      this.say("Type a prompt first, or take one from the starters.", true);
      this.cards.find((card) => card.prompt !== null)?.prompt?.focus();
      return;
    }
    if (this.root.hasAttribute("data-two")) await this.runTwo(cards.filter((card) => card.prompt !== null));
    else await this.submit(cards);
  }

  private async runTwo(cards: readonly PlaygroundCard[]): Promise<void> {
    this.say("", false);
    try {
      await this.compare.start(
        cards.map((card) => card.prompt!.value),
        this.form.maxTokens(),
      );
    } catch (error) {
      this.say((error as Error).message, true);
    }
    this.context.invalidate();
  }

  private async submit(cards: readonly PlaygroundCard[]): Promise<void> {
    let params: Record<string, unknown>;
    try {
      params = this.form.read();
    } catch (error) {
      this.say((error as Error).message, true);
      return;
    }
    this.say("", false);
    for (const card of cards) card.request = null;
    this.session.setCursor("live");
    const prompts = cards.map((card) =>
      card.branch === null ? card.prompt!.value : { prompt_token_ids: [...card.branch.promptTokenIds] },
    );
    try {
      const { request_ids: ids } = await this.session.command("submit", { prompts, params, priority: 0 });
      cards.forEach((card, i) => {
        const id = ids[i];
        if (id === undefined) return;
        card.request = id;
        this.own.add(id);
      });
      if (this.session.store.status?.state === "paused") {
        this.say(QUEUED, false);
      }
    } catch (error) {
      this.say((error as Error).message, true);
    }
    this.context.invalidate();
  }

  private stop(): void {
    if (this.root.hasAttribute("data-two")) {
      this.compare.stop();
      return;
    }
    for (const id of this.own) this.cancel(id);
  }

  private cancel(id: string | null): void {
    if (id === null || this.session.store.requests.get(id)?.ending !== null) return;
    this.session.command("cancel", { request_id: id }).catch((error: Error) => this.say(error.message, true));
  }

  private say(message: string, bad: boolean): void {
    setText(this.note, message);
    setAttribute(this.note, "data-kind", bad ? "bad" : "");
    setAttribute(this.note, "data-of", "");
  }

  private fillStarters(): void {
    const starters = this.session.store.info?.starters ?? [];
    const key = starters.map((s) => s.title).join("\n");
    if (key === this.startersFor && this.starters.childElementCount > 0) return;
    this.startersFor = key;
    this.starters.replaceChildren(
      h("option", { value: "" }, "Starters …"),
      ...starters.map((s, i) => h("option", { value: String(i) }, s.title)),
      ...(starters.length > 1 ? [h("option", { value: "all" }, "Four at once")] : []),
    );
    this.starters.hidden = starters.length === 0;
    // Something to run at once. Never over what the reader typed.
    const areas = this.cards.flatMap((card) => card.prompt ?? []);
    if (areas.every((area) => area.value === "" && document.activeElement !== area)) {
      areas.forEach((area, i) => (area.value = starters[i]?.text ?? ""));
    }
  }

  /** Into the first empty prompt, or a new one beside the others. */
  private useStarter(): void {
    const starters = this.session.store.info?.starters ?? [];
    const { value } = this.starters;
    this.starters.value = "";
    const chosen = value === "all" ? starters.slice(0, 4) : starters.slice(Number(value), Number(value) + 1);
    const texts = new Set(starters.map((s) => s.text));
    // What the reader typed is never replaced; an empty prompt or an untouched starter is.
    const free = this.cards.filter(
      ({ prompt }) => prompt !== null && (prompt.value.trim() === "" || texts.has(prompt.value)),
    );
    const target = free.indexOf(this.lastFocused ?? free[0]!);
    if (chosen.length === 1 && target > 0) free.splice(0, target);
    for (const { text } of chosen) {
      const card = free.shift();
      if (card !== undefined) card.prompt!.value = text;
      else if (this.cards.length < MAX_PROMPTS) this.addCard(text);
    }
  }
}
