// Keeps the pictures of saved notebooks up to date where JupyterLab no longer can: it forgets which output a display id
// belongs to when a page is reloaded or a notebook closed (workbench/widgets/still.py).

import type { ISessionContext } from "@jupyterlab/apputils";

import type { Place } from "./hub.ts";

/** What is used of a notebook in the main area. */
interface NotebookLike {
  readonly context: { readonly ready: Promise<void>; readonly isReady: boolean };
  readonly sessionContext: ISessionContext;
  readonly content: { readonly model: { readonly cells: Iterable<CellLike> } | null };
}

interface CellLike {
  readonly outputs?: OutputsLike;
}

interface OutputsLike {
  readonly length: number;
  get(index: number): Output & { toJSON(): object };
  set(index: number, value: never): void;
}

interface Output {
  readonly data?: Record<string, unknown> | undefined;
}

interface Still {
  readonly id: string;
  readonly edition: string;
  readonly outputs: OutputsLike;
  readonly index: number;
}

const MARKS = /^<div class="iw-still" [^>]*data-still="([\w-]+)" data-edition="(\d+)"/;

/** The id and the edition that a picture carries, if it is one. */
export function marksOf(output: Output): [id: string, edition: string] | null {
  const text = output.data?.["text/html"];
  const found = MARKS.exec(Array.isArray(text) ? text.join("") : String(text));
  return found === null ? null : [found[1]!, found[2]!];
}

export class Stills {
  private readonly places: () => readonly Pick<Place, "context" | "link">[];
  private readonly notebooks = new Set<NotebookLike>();
  /** Those whose pictures were asked for since their kernel answered. */
  private readonly asked = new WeakSet<NotebookLike>();

  constructor(places: () => readonly Pick<Place, "context" | "link">[]) {
    this.places = places;
  }

  /** Write each picture that this notebook's kernel publishes into the notebook, from now on. */
  follow(widget: unknown): void {
    if (!isNotebook(widget) || this.notebooks.has(widget)) return;
    this.notebooks.add(widget);
    const context = widget.sessionContext;
    context.iopubMessage.connect((_, message) => {
      if (message.header.msg_type === "update_display_data") write(widget, message.content as Output);
    });
    context.disposed.connect(() => this.notebooks.delete(widget));
    void widget.context.ready.then(() => this.catchUp());
  }

  /** Ask each kernel that has just been connected to for what was drawn while this page was away. */
  catchUp(): void {
    for (const notebook of this.notebooks) {
      const link = this.places().find(({ context }) => context === notebook.sessionContext)?.link;
      if (link?.connected !== true) this.asked.delete(notebook);
      else if (!this.asked.has(notebook) && notebook.context.isReady) {
        // Before that the notebook has no cells yet, and so no pictures to ask for.
        this.asked.add(notebook);
        const editions = Object.fromEntries(stillsOf(notebook).map(({ id, edition }) => [id, edition]));
        if (Object.keys(editions).length > 0) link.askStills(editions);
      }
    }
  }
}

function write(notebook: NotebookLike, { data }: Output): void {
  const marks = marksOf({ data });
  if (marks === null) return;
  const old = stillsOf(notebook).find((still) => still.id === marks[0]);
  // Where JupyterLab knows the display id, it has written the picture already.
  if (old === undefined || old.edition === marks[1]) return;
  old.outputs.set(old.index, { ...old.outputs.get(old.index).toJSON(), data } as never);
}

/** Consoles have sessions too, and no outputs that are saved. */
function isNotebook(widget: unknown): widget is NotebookLike {
  const { context, sessionContext, content } = widget as Partial<NotebookLike>;
  return context !== undefined && sessionContext !== undefined && content !== undefined && "widgets" in content;
}

function stillsOf(notebook: NotebookLike): Still[] {
  const found: Still[] = [];
  for (const { outputs } of notebook.content.model?.cells ?? []) {
    for (let index = 0; index < (outputs?.length ?? 0); index++) {
      const marks = marksOf(outputs!.get(index));
      if (marks !== null) found.push({ id: marks[0], edition: marks[1], outputs: outputs!, index });
    }
  }
  return found;
}
