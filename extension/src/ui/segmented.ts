import { h } from "./dom.ts";

/** A row of buttons of which one is on. */
export function segmented<T extends string>(
  label: string,
  options: readonly (readonly [value: T, text: string, title: string])[],
  initial: T,
  changed: (value: T) => void,
): HTMLElement {
  const group = h("div", { class: "iw-segmented", role: "group", "aria-label": label });
  const buttons = options.map(([value, text, title]) =>
    h(
      "button",
      {
        type: "button",
        title,
        "aria-pressed": String(value === initial),
        "data-testid": `${label.toLowerCase().replace(/\W+/g, "-")}-${value}`,
        onclick: () => {
          options.forEach(([other], i) => buttons[i]!.setAttribute("aria-pressed", String(other === value)));
          changed(value);
        },
      },
      text,
    ),
  );
  group.append(...buttons);
  return group;
}
