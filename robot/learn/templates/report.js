"use strict";

// The values under the pointer, for every chart.
for (const figure of document.querySelectorAll(".chart")) {
  const svg = figure.querySelector("svg");
  const cursor = figure.querySelector(".cursor");
  const tip = figure.querySelector(".tip");
  const series = JSON.parse(figure.querySelector("script").textContent);
  const colours = [...figure.querySelectorAll(".legend i")].map((mark) => mark.style.background);
  const nearest = (points, x) => points.reduce((best, p) => (Math.abs(p[1] - x) < Math.abs(best[1] - x) ? p : best));

  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const found = series.map((one) => nearest(one.points, x));
    const at = found.reduce((best, p) => (Math.abs(p[1] - x) < Math.abs(best[1] - x) ? p : best));
    cursor.setAttribute("x1", at[1]);
    cursor.setAttribute("x2", at[1]);
    cursor.setAttribute("visibility", "visible");
    tip.replaceChildren(document.createTextNode(`${figure.dataset.over} ${at[0]}`));
    series.forEach((one, k) => {
      if (found[k][0] !== at[0]) return;
      const mark = document.createElement("i");
      mark.style.background = colours[k];
      tip.append(document.createElement("br"), mark, `${one.name} ${found[k][3]}`);
    });
    tip.hidden = false;
    const left = box.left - figure.getBoundingClientRect().left + at[1] / scale + 12;
    const room = figure.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, left > room ? left - tip.offsetWidth - 24 : left)}px`;
    tip.style.top = `${svg.getBoundingClientRect().top - figure.getBoundingClientRect().top + 16}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
  addEventListener("resize", hide);
}

// Videos play while they are in sight, unless less motion is asked for.
if ("IntersectionObserver" in window && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) target.play().catch(() => {});
        else target.pause();
      }
    },
    { threshold: 0.5 },
  );
  for (const video of document.querySelectorAll("video")) observer.observe(video);
}
