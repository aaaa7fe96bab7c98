// One column of the playground: a prompt that the reader may edit, a branch, or a request from elsewhere.

import { count, int, percent, visible } from "../format.ts";
import { explainEnding } from "../reasons.ts";
import type { Session } from "../session.ts";
import { lastStepAt, type RequestInfo } from "../trace_types.ts";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import type { HoverCard } from "../ui/hover_card.ts";
import type { Theme } from "../ui/theme.ts";
import type { Duel } from "../lockstep.ts";
import { DuelView } from "./duel.ts";
import { type Branch, branchAt, choicesAt, sharedBlocks } from "./playground_branch.ts";
import { progressAt } from "./playground_guests.ts";
import { endingBy } from "./request_rows.ts";
import { type Shading, TokenText } from "./token_text.ts";

const MOST_CHOICES = 4;
/** Characters of a branch's prompt that are shown: its end, which is what it goes on from. */
const SHOWN_PREFIX = 40;

export interface CardActions {
  run(): void;
  rerun(card: PlaygroundCard): void;
  stop(card: PlaygroundCard): void;
  remove(card: PlaygroundCard): void;
  branch(branch: Branch): void;
  focused(card: PlaygroundCard): void;
}

export class PlaygroundCard {
  readonly element: HTMLElement;
  /** What the reader types; null for branches and guests. */
  readonly prompt: HTMLTextAreaElement | null;
  readonly branch: Branch | null;
  request: string | null = null;
  /** The prompt's place in the newest comparison of two engines; null if it is not in it. */
  duelIndex: number | null = null;
  private readonly duel: DuelView | null;
  private readonly one: HTMLElement;
  private readonly session: Session;
  private readonly actions: CardActions;
  private readonly head = h("span", { class: "iw-card-id" });
  private readonly label = h("p", { class: "iw-prompt-text" });
  private readonly facts = h("p", { class: "iw-card-facts" });
  private readonly choices = h("div", { class: "iw-choices", role: "group", "data-testid": "branch-choices" });
  private readonly text: TokenText;
  private readonly again: HTMLButtonElement;
  private readonly halt: HTMLButtonElement;
  private choicesKey = "";

  /** `kind`: the text of a prompt to edit, a branch, or null for a request from elsewhere. */
  constructor(session: Session, hover: HoverCard, actions: CardActions, kind: string | Branch | null, number: number) {
    this.session = session;
    this.actions = actions;
    this.branch = typeof kind === "object" ? kind : null;
    this.prompt = typeof kind === "string" ? this.editor(kind, number) : null;
    this.text = new TokenText(session, hover);
    this.duel = this.prompt === null ? null : new DuelView(session, hover);
    const button = (text: string, title: string, id: string, click: () => void): HTMLButtonElement =>
      h(
        "button",
        { type: "button", class: "iw-close", title, "aria-label": title, "data-testid": id, onclick: click },
        text,
      );
    this.again = button("↻", "Send this prompt again, with the settings as they are now", "again", () =>
      actions.rerun(this),
    );
    this.halt = button("■", "Stop this request", "halt", () => actions.stop(this));
    const own = kind !== null;
    const remove = button("×", "Remove this column", "remove", () => actions.remove(this));
    this.one = h("div", {}, this.facts, this.text.element, this.choices);
    this.element = h(
      "article",
      { class: own && this.prompt !== null ? "iw-prompt" : "iw-prompt iw-guest" },
      this.prompt,
      h("header", {}, h("span", { class: "iw-chip" }), this.head, ...(own ? [this.again, this.halt, remove] : [])),
      this.prompt === null ? this.label : null,
      this.one,
      this.duel?.element ?? null,
    );
    this.head.addEventListener("click", () => session.select({ request: this.request }));
    if (this.branch !== null) setText(this.label, this.branchLabel(this.branch));
  }

  /** With two engines: what they answered to this prompt, null before there is anything. */
  drawTwo(duel: Duel | null): void {
    this.one.hidden = true;
    this.element.hidden = this.duel === null;
    this.again.hidden = this.halt.hidden = true;
    setText(this.head, "");
    this.element.classList.remove("iw-selected", "iw-failed");
    if (this.duel === null) return;
    this.duel.element.hidden = false;
    this.duel.draw(duel);
  }

  draw(shading: Shading, theme: Theme): void {
    const { session } = this;
    this.one.hidden = this.element.hidden = false;
    if (this.duel !== null) this.duel.element.hidden = true;
    const request = session.store.requests.get(this.request ?? "") ?? null;
    this.text.draw(request, shading, theme);
    const selected = request !== null && session.selection.request === request.id;
    const live = request !== null && request.ending === null;
    this.element.classList.toggle("iw-selected", selected);
    this.again.hidden = request === null || live || !session.commandable;
    this.halt.hidden = !live || !session.commandable;
    this.drawChoices(selected ? request : null);
    if (request === null) {
      this.element.classList.remove("iw-failed");
      setText(this.head, this.request === null ? "" : "in the queue …");
      this.facts.hidden = true;
      return;
    }
    setProperty(this.element, "--chip", theme.request(request.colour));
    setText(this.head, `${request.id} · ${progressAt(request, session.cursor)}`);
    const ending = endingBy(request, lastStepAt(session.cursor));
    this.element.classList.toggle("iw-failed", ending?.reason === "error");
    setAttribute(this.head, "title", ending === null ? "" : explainEnding(ending.reason, ending.detail));
    if (this.prompt === null && this.branch === null) setText(this.label, request.label);
    const facts = this.sharing(request);
    this.facts.hidden = facts === "";
    setText(this.facts, facts);
  }

  /** What of the prompt was in the KV cache already, and what is shared with the parent at this moment. */
  private sharing(request: RequestInfo): string {
    const { store, cursor } = this.session;
    const looked = request.firstScheduled !== null && request.firstScheduled <= store.timeAt(cursor);
    if (!looked || request.numCached === 0) return "";
    const prompt = count(request.promptTokenIds.length, "prompt token");
    const found = `${int(request.numCached)} of ${prompt} were in the KV cache already`;
    const state = store.stateAt(cursor);
    if (this.branch === null || state === null) return found;
    const shared = sharedBlocks(state, this.branch.parent, request.id);
    return shared === 0 ? found : `${found}; ${count(shared, "block")} shared with ${this.branch.parent} now`;
  }

  /** With a token picked: ways to go on from it, each its own request. */
  private drawChoices(request: RequestInfo | null): void {
    const { session } = this;
    const index = request === null ? null : session.selection.token;
    const shown = request !== null && index !== null && session.commandable;
    this.choices.hidden = !shown;
    const key = shown ? `${request.id} ${index}` : "";
    if (key === this.choicesKey) return;
    this.choicesKey = key;
    if (!shown) {
      this.choices.replaceChildren();
      return;
    }
    this.choices.setAttribute("aria-label", `Branch from token ${index + 1} of ${request.id}`);
    const buttons = choicesAt(request, index, MOST_CHOICES).map(({ id, logprob, taken }) => {
      const text = `“${visible(session.store.text(id))}”`;
      const share = logprob === null ? "" : ` ${percent(Math.exp(logprob))}`;
      const title = taken
        ? "A new request with the prompt and all tokens up to this one"
        : "A new request with this token in the place of the picked one";
      return h(
        "button",
        {
          type: "button",
          class: "iw-button",
          title,
          onclick: () => this.actions.branch(branchAt(request, index, id)),
        },
        taken ? `after ${text}${share}` : `with ${text}${share}`,
      );
    });
    this.choices.replaceChildren(h("span", {}, "Branch"), ...buttons);
  }

  private branchLabel(branch: Branch): string {
    const { store } = this.session;
    const text = branch.promptTokenIds.map((id) => store.text(id)).join("");
    const end = text.length > SHOWN_PREFIX ? `…${text.slice(1 - SHOWN_PREFIX)}` : text;
    const how = branch.replaced ? "with another token" : "after token";
    return `${branch.parent} ${how} ${int(branch.index + 1)}: ${visible(end)}`;
  }

  private editor(text: string, number: number): HTMLTextAreaElement {
    const area = h("textarea", {
      rows: 2,
      placeholder: "Type a prompt",
      "aria-label": `Prompt ${number}`,
      "data-testid": `prompt-${number - 1}`,
      spellcheck: false,
    });
    area.value = text;
    area.addEventListener("keydown", (event) => {
      // Shift+Enter would run the notebook's cell: nothing typed here may reach the notebook.
      event.stopPropagation();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.actions.run();
      }
    });
    area.addEventListener("focus", () => this.actions.focused(this));
    return area;
  }
}
