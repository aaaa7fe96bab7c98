// Playground: several prompts at once, their tokens as they come, each with its probability and latency.

import { count, int } from "../format.ts";
import { explainEnding } from "../reasons.ts";
import type { Session } from "../session.ts";
import type { RequestInfo } from "../trace_types.ts";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { samplingForm } from "./sampling_form.ts";
import { type Shading, TokenText } from "./token_text.ts";

const MAX_PROMPTS = 8;
const FIRST_PROMPTS = 2;
/** Requests from elsewhere that are shown besides this playground's own. */
const MAX_GUESTS = 4;

const QUEUED = "Queued. The engine is paused: resume or step to run it.";

export function playgroundView(element: HTMLElement, context: ViewContext): View {
  return new PlaygroundView(element, context);
}

/** One column: a prompt that the reader may edit, or the prompt of a request from elsewhere. */
interface Card {
  readonly element: HTMLElement;
  readonly prompt: HTMLTextAreaElement | null;
  readonly head: HTMLElement;
  readonly text: TokenText;
  request: string | null;
}

class PlaygroundView implements View {
  private readonly context: ViewContext;
  private readonly session: Session;
  private readonly form = samplingForm();
  private readonly cards: Card[] = [];
  private readonly guests: Card[] = [];
  private readonly grid = h("div", { class: "iw-cards" });
  private readonly starters = h("select", { class: "iw-select", "aria-label": "Starters", "data-testid": "starters" });
  private readonly runButton: HTMLButtonElement;
  private readonly stopButton: HTMLButtonElement;
  private readonly addButton: HTMLButtonElement;
  private readonly note = h("div", { class: "iw-note", role: "alert", "data-testid": "playground-notice" });
  private readonly card: HoverCard;
  private readonly own = new Set<string>();
  private shading: Shading = "probability";
  private startersFor = "";
  private lastFocused: Card | null = null;

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
    const shades = segmented<Shading>(
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
    const root = h("div", { class: "iw-playground", "data-testid": "playground" });
    root.append(
      h("div", { class: "iw-toolbar" }, this.runButton, this.stopButton, this.addButton, this.starters, shades),
      this.form.element,
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
    this.runButton.disabled = !session.commandable;
    this.stopButton.disabled = !session.commandable || live.length === 0;
    this.addButton.disabled = this.cards.length >= MAX_PROMPTS;
    this.drawGuests();
    for (const card of [...this.cards, ...this.guests]) this.drawCard(card);
  }

  destroy(): void {
    this.card.hide();
  }

  /** True while a request of this playground has not been looked at by the engine. */
  private get queued(): boolean {
    return this.cards.some((card) => {
      const info = this.session.store.requests.get(card.request ?? "");
      return card.request !== null && (info === undefined || (info.firstScheduled === null && info.ending === null));
    });
  }

  private drawCard(card: Card): void {
    const { session } = this;
    const theme = this.context.theme();
    const request = session.store.requests.get(card.request ?? "") ?? null;
    card.text.draw(request, this.shading, theme);
    const selected = request !== null && session.selection.request === request.id;
    card.element.classList.toggle("iw-selected", selected);
    card.element.classList.toggle("iw-has-output", request !== null);
    if (request === null) {
      setText(card.head, card.request === null ? "" : "in the queue …");
      return;
    }
    setProperty(card.element, "--chip", theme.request(request.colour));
    setText(card.head, `${request.id} · ${this.progress(request)}`);
    const { ending } = request;
    setAttribute(card.head, "title", ending === null ? "" : explainEnding(ending.reason, ending.detail));
    card.element.classList.toggle("iw-failed", request.ending?.reason === "error");
  }

  private progress(request: RequestInfo): string {
    const tokens = count(request.tokens.length, "token");
    const { ending } = request;
    if (ending?.reason === "error") return explainEnding(ending.reason, ending.detail);
    if (ending !== null) return `${tokens} · ${ending.reason}`;
    if (request.tokens.length === 0) return "waiting for its first token";
    return `${int(request.tokens.length)} of ${count(request.maxTokens, "token")}`;
  }

  /** Requests that came from a cell or another view: the selected one first, then the newest. */
  private drawGuests(): void {
    const { store, selection } = this.session;
    const others = [...store.requests.values()].filter((r) => !this.own.has(r.id));
    const selected = others.find((r) => r.id === selection.request);
    const live = others.filter((r) => r.ending === null);
    // What is being written now is worth more room than what waits or has ended.
    const writing = live.filter((r) => r.tokens.length > 0);
    const candidates = writing.length > 0 ? writing : live.length > 0 ? live : this.own.size === 0 ? others : [];
    const shown = candidates.slice(-MAX_GUESTS).map((r) => r.id);
    if (selected !== undefined && !shown.includes(selected.id)) shown.unshift(selected.id);
    shown.length = Math.min(shown.length, MAX_GUESTS);
    while (this.guests.length < shown.length) this.guests.push(this.makeGuest());
    while (this.guests.length > shown.length) this.guests.pop()!.element.remove();
    shown.forEach((id, i) => {
      const guest = this.guests[i]!;
      if (guest.request === id) return;
      guest.request = id;
      setText(guest.element.querySelector(".iw-prompt-text")!, store.requests.get(id)?.label ?? "");
    });
  }

  private makeGuest(): Card {
    const head = h("span", { class: "iw-card-id" });
    const text = new TokenText(this.session, this.card);
    const element = h(
      "article",
      { class: "iw-prompt iw-guest" },
      h("header", {}, h("span", { class: "iw-chip" }), head),
      h("p", { class: "iw-prompt-text" }),
      text.element,
    );
    const card: Card = { element, prompt: null, head, text, request: null };
    head.addEventListener("click", () => this.session.select({ request: card.request }));
    this.grid.append(element);
    return card;
  }

  private addCard(prompt: string): Card {
    const head = h("span", { class: "iw-card-id" });
    const text = new TokenText(this.session, this.card);
    const area = h("textarea", {
      rows: 2,
      placeholder: "Type a prompt",
      "aria-label": `Prompt ${this.cards.length + 1}`,
      "data-testid": `prompt-${this.cards.length}`,
      spellcheck: false,
    });
    area.value = prompt;
    area.addEventListener("keydown", (event) => {
      // Shift+Enter would run the notebook's cell: nothing typed here may reach the notebook.
      event.stopPropagation();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        void this.run();
      }
    });
    const remove = h(
      "button",
      { type: "button", class: "iw-close", title: "Remove this prompt", "aria-label": "Remove this prompt" },
      "×",
    );
    const element = h(
      "article",
      { class: "iw-prompt" },
      area,
      h("header", {}, h("span", { class: "iw-chip" }), head, remove),
      text.element,
    );
    const card: Card = { element, prompt: area, head, text, request: null };
    area.addEventListener("focus", () => (this.lastFocused = card));
    remove.addEventListener("click", () => this.removeCard(card));
    head.addEventListener("click", () => this.session.select({ request: card.request }));
    this.cards.push(card);
    this.grid.insertBefore(element, this.guests[0]?.element ?? null);
    this.context.invalidate();
    return card;
  }

  private removeCard(card: Card): void {
    if (this.cards.length === 1) {
      card.prompt!.value = "";
      card.request = null;
    } else {
      this.cards.splice(this.cards.indexOf(card), 1);
      card.element.remove();
    }
    this.context.invalidate();
  }

  private async run(): Promise<void> {
    const cards = this.cards.filter((card) => card.prompt!.value.trim() !== "");
    if (cards.length === 0) {
      this.say("Type a prompt first, or take one from the starters.", true);
      this.cards[0]!.prompt!.focus();
      return;
    }
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
    const prompts = cards.map((card) => card.prompt!.value);
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
    for (const id of this.own) {
      if (this.session.store.requests.get(id)?.ending !== null) continue;
      this.session.command("cancel", { request_id: id }).catch((error: Error) => this.say(error.message, true));
    }
  }

  private say(message: string, bad: boolean): void {
    setText(this.note, message);
    setAttribute(this.note, "data-kind", bad ? "bad" : "");
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
    if (this.cards.every((card) => card.prompt!.value === "" && document.activeElement !== card.prompt)) {
      this.cards.forEach((card, i) => (card.prompt!.value = starters[i]?.text ?? ""));
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
    const free = this.cards.filter((card) => card.prompt!.value.trim() === "" || texts.has(card.prompt!.value));
    const target = free.indexOf(this.lastFocused ?? free[0]!);
    if (chosen.length === 1 && target > 0) free.splice(0, target);
    for (const { text } of chosen) {
      const card = free.shift();
      if (card !== undefined) card.prompt!.value = text;
      else if (this.cards.length < MAX_PROMPTS) this.addCard(text);
    }
  }
}
