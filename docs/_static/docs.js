// SPDX-License-Identifier: Apache-2.0
// Names for what the theme leaves to the eye: the logo's part of the page, the arrows that unfold.
document.addEventListener("DOMContentLoaded", () => {
  const home = document.querySelector(".sidebar-primary-item:has(.logo)");
  home?.setAttribute("role", "navigation");
  home?.setAttribute("aria-label", "Home");
  for (const arrow of document.querySelectorAll("summary")) {
    if (!arrow.textContent.trim()) arrow.setAttribute("aria-label", "Pages below");
  }
});
