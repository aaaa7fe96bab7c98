// The tutorials travel inside the extension: opening one puts a copy where the reader can change it.

import { PageConfig, URLExt } from "@jupyterlab/coreutils";
import { type Contents, ServerConnection } from "@jupyterlab/services";

export interface Tutorial {
  readonly name: string;
  readonly notebook: { readonly cells: readonly { readonly cell_type: string; readonly source: string | string[] }[] };
}

/** Where copies go, and where a checkout of the project has the originals. */
const COPIES = "workbench-tutorials";
const ORIGINALS = "notebooks";

/** A tutorial's first heading, or its file name. */
export function titleOf(tutorial: Tutorial): string {
  const text = tutorial.notebook.cells
    .filter((cell) => cell.cell_type === "markdown")
    .map((cell) => [cell.source].flat().join(""))
    .join("\n");
  return /^#\s+(.+)$/m.exec(text)?.[1] ?? tutorial.name;
}

export async function loadTutorials(): Promise<Tutorial[]> {
  const settings = ServerConnection.makeSettings();
  const path = URLExt.join(PageConfig.getOption("fullLabextensionsUrl"), "inference-workbench/static/tutorials.json");
  const url = new URL(path, settings.baseUrl).href;
  const response = await ServerConnection.makeRequest(url, {}, settings);
  if (!response.ok) throw new Error(`The tutorials could not be read: ${response.status} ${response.statusText}.`);
  return (await response.json()) as Tutorial[];
}

/** The path of a tutorial to open: the original in a checkout, a copy made earlier, or a new copy. */
export async function placeTutorial(contents: Contents.IManager, tutorial: Tutorial): Promise<string> {
  for (const folder of [ORIGINALS, COPIES]) {
    const path = `${folder}/${tutorial.name}`;
    const known = await names(contents, folder);
    if (known.has(tutorial.name)) return path;
  }
  if (!(await names(contents, "")).has(COPIES)) await contents.save(COPIES, { type: "directory" });
  const path = `${COPIES}/${tutorial.name}`;
  await contents.save(path, { type: "notebook", format: "json", content: tutorial.notebook });
  return path;
}

/** What a folder holds; nothing if there is none. */
async function names(contents: Contents.IManager, folder: string): Promise<Set<string>> {
  if (folder !== "" && !(await names(contents, "")).has(folder)) return new Set();
  const { content } = await contents.get(folder, { content: true });
  return new Set((content as { name: string }[]).map((item) => item.name));
}
