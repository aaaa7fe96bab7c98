/** A key press as JupyterLab writes it: "Shift F8". */
export function keystroke(event: Pick<KeyboardEvent, "key" | "ctrlKey" | "altKey" | "shiftKey" | "metaKey">): string {
  const held = [event.ctrlKey && "Ctrl", event.altKey && "Alt", event.shiftKey && "Shift", event.metaKey && "Cmd"];
  return [...held.filter((name) => name !== false), event.key.length === 1 ? event.key.toUpperCase() : event.key].join(
    " ",
  );
}
