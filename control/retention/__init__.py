"""How long bars are kept: what people say of a frame, and the removal by the controller."""
