// Light, dark, or as the system has it. Loaded before the page is drawn, so that no page flashes.
"use strict";
(() => {
  const THEMES = ["auto", "light", "dark"];
  const kept = () => {
    try {
      return THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";
    } catch {
      return "auto"; // storage may be switched off
    }
  };
  const set = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  set(kept());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = (theme) => {
      button.textContent = theme[0].toUpperCase() + theme.slice(1);
      button.setAttribute("aria-label", `Colours: ${theme}. Change`);
    };
    button.hidden = false;
    show(kept());
    button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(kept()) + 1) % THEMES.length];
      try {
        localStorage.setItem("theme", next);
      } catch {
        // then it holds for this page
      }
      set(next);
      show(next);
      document.dispatchEvent(new Event("theme"));
    });
  });
})();
