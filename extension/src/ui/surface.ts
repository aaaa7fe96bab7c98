/** A canvas that keeps its pixels equal to the screen's while its element is resized. Sizes are in CSS pixels. */
export class Surface {
  readonly canvas = document.createElement("canvas");
  readonly context: CanvasRenderingContext2D;
  width = 0;
  height = 0;
  /** Device pixels per CSS pixel. */
  scale = 1;
  private readonly observer: ResizeObserver;

  constructor(parent: HTMLElement, label: string, resized: () => void) {
    this.canvas.className = "iw-canvas";
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label);
    parent.append(this.canvas);
    this.context = this.canvas.getContext("2d", { alpha: true })!;
    this.observer = new ResizeObserver(() => {
      this.fit();
      resized();
    });
    this.observer.observe(parent);
    this.fit();
  }

  /** Empty the canvas and set up CSS pixels as its unit. */
  begin(): CanvasRenderingContext2D {
    if (this.scale !== devicePixelRatio) this.fit();
    this.context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    this.context.clearRect(0, 0, this.width, this.height);
    return this.context;
  }

  /** Where a pointer event is, in this canvas. */
  locate(event: MouseEvent): { x: number; y: number } {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  destroy(): void {
    this.observer.disconnect();
    this.canvas.remove();
  }

  private fit(): void {
    const parent = this.canvas.parentElement!;
    this.scale = devicePixelRatio;
    this.width = parent.clientWidth;
    this.height = parent.clientHeight;
    this.canvas.width = Math.max(1, Math.round(this.width * this.scale));
    this.canvas.height = Math.max(1, Math.round(this.height * this.scale));
  }
}
