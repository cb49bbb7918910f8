// Vendor files that bring no types of their own.
declare module "highlight-core";
declare module "highlight-languages/*";
