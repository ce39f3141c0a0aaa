// A region that scrolls is reached by the keyboard; the captions of the contents have a level.
const reach = () => {
  for (const region of document.querySelectorAll("pre, .table-wrapper, .output_area, .math")) {
    if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
  }
};
window.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) {
    caption.setAttribute("aria-level", "2");
  }
  reach();
});
window.addEventListener("load", reach);
window.addEventListener("resize", reach);
